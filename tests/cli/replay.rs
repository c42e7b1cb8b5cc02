//! `kiln replay` and `kiln record`.

use super::{kiln, kiln_in, repository, text};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path};

/// A small fixture: 1 + 2 is stored, logged and returned.
fn fixture() -> Value {
    json!({
        "format": "evm-fixture-v1", "kind": "contract", "name": "add", "source": "here",
        "chain_id": 1, "fork": "Cancun",
        "env": {
            "number": 1, "timestamp": 1,
            "beneficiary": "0x0000000000000000000000000000000000000000",
            "gas_limit": 30_000_000, "basefee": 0, "difficulty": "0x0",
            "prevrandao": format!("0x{}", "00".repeat(32)),
            "excess_blob_gas": 0, "blob_base_fee_update_fraction": null,
        },
        "txs": [{
            "type": 0, "from": "0x1111111111111111111111111111111111111111",
            "to": "0xcccccccccccccccccccccccccccccccccccccccc", "nonce": 0, "gas_limit": 100_000,
            "gas_price": "0x0", "max_priority_fee": null, "value": "0x0", "data": "0x",
            "chain_id": 1,
        }],
        "pre_state": {
            "0xcccccccccccccccccccccccccccccccccccccccc": {
                "balance": "0x0", "nonce": 1,
                "code_hash":
                    "0x2db5db7c21e2ccce6b0ed9d5c63b2b41d6c3cde9af9aef2ebc3bb5f5ca47a2a3",
                "storage": {},
            },
        },
        "codes": {},
        "block_hashes": {},
    })
}

/// The fixture with its code, recorded, and changed by `change` afterwards.
fn recorded(folder: &Path, change: impl FnOnce(&mut Value)) -> String {
    let path = folder.join("add.json");
    let mut fixture = fixture();
    let code = "0x600160020160005560016000526020600060006000a160206000f3";
    let hash = revm::primitives::keccak256(revm::primitives::hex::decode(code).expect("hex"));
    let contract = "0xcccccccccccccccccccccccccccccccccccccccc";
    fixture["pre_state"][contract]["code_hash"] = json!(hash);
    fixture["codes"] = json!({ hash.to_string(): code });
    fs::write(&path, fixture.to_string()).expect("writable");
    kiln(["record", text(&path)]).exits(0);
    let bytes = fs::read(&path).expect("recorded");
    let mut fixture: Value = serde_json::from_slice(&bytes).expect("JSON");
    change(&mut fixture);
    fs::write(&path, fixture.to_string()).expect("writable");
    text(&path).to_owned()
}

/// The tiers that can be named and make machine code.
fn compiling_tiers() -> &'static [&'static str] {
    match cfg!(feature = "llvm") {
        true => &["tier0", "optimised", "tier1"],
        false => &["tier0", "optimised"],
    }
}

#[test]
fn without_llvm_and_a_worker_there_is_no_tier_1() {
    let workloads = repository("workloads");
    let replay = ["replay", text(&workloads), "--tier", "tier1"];
    let ran = kiln_in(&[("KILN_TIER1_WORKER", "off")], &replay);
    match cfg!(feature = "llvm") {
        true => ran.exits(0).prints(&["0 with mismatches"]),
        false => ran.exits(2).complains(&["feature llvm"]),
    };
}

#[test]
fn a_worker_that_is_none_leaves_everything_interpreted_or_to_this_process() {
    let workloads = repository("workloads");
    let vars = [("KILN_TIER1_WORKER", "/bin/false")];
    kiln_in(&vars, &["replay", text(&workloads), "--tier", "tier1"])
        .exits(0)
        .prints(&["0 with mismatches"]);
}

#[test]
fn a_recorded_fixture_replays_on_every_tier() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |_| {});
    for tier in ["interpreter", "evaluator", "auto"].iter().chain(compiling_tiers()) {
        for compile in ["all", "seen"] {
            kiln(["replay", &path, "--tier", tier, "--compile", compile, "--compare"])
                .exits(0)
                .prints(&["add", "ok"])
                .prints(&["1 fixtures, 0 with mismatches"]);
        }
    }
}

#[test]
fn what_is_recorded_is_what_revm_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |_| {});
    let fixture: Value = serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON");
    let tx = &fixture["expected"]["txs"][0];
    assert_eq!(tx["status"], "success");
    assert_eq!(tx["reason"], "Return");
    assert_eq!(tx["output_len"], 32);
    assert_eq!(tx["logs"], 1);
    let contract = &fixture["expected"]["post_state"]["0xcccccccccccccccccccccccccccccccccccccccc"];
    assert_eq!(contract["storage"], json!({ "0x0": "0x3" }));
    // The caller did not exist; its nonce makes it exist.
    let caller = &fixture["expected"]["post_state"]["0x1111111111111111111111111111111111111111"];
    assert_eq!(caller["nonce"], 1);
}

#[test]
fn the_json_has_all_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |_| {});
    let json = folder.path().join("out.json");
    kiln(["replay", &path, "--tier", "evaluator", "--compare", "--json", text(&json)]).exits(0);
    let report: Value = serde_json::from_slice(&fs::read(json).expect("there")).expect("JSON");
    let [row] = report["fixtures"].as_array().expect("a list").as_slice() else {
        panic!("not one fixture: {report}")
    };
    for row in [row, &report["total"]] {
        assert_eq!(row["ok"], true);
        assert_eq!(row["mismatches"], json!([]));
        for number in [
            "gas",
            "txs",
            "interpreter_ns",
            "tier_ns",
            "ratio",
            "native_instruction_share",
            "compile_cpu_ns",
            "programs",
            "regions",
            "code_bytes",
        ] {
            assert!(row[number].is_number(), "{number} in {row}");
        }
        assert_eq!(row["txs"], 1);
        assert_eq!(row["programs"], 1);
        let share = row["native_instruction_share"].as_f64().expect("a number");
        assert!((0.5..=1.0).contains(&share), "{share}");
        assert!(row["ratio"].as_f64().expect("a number") > 0.0);
    }
    assert_eq!((&row["name"], &row["kind"]), (&json!("add"), &json!("contract")));
    let printed = kiln(["replay", &path, "--tier", "interpreter", "--json", "-"]).exits(0);
    serde_json::from_str::<Value>(&printed.stdout).expect("nothing but JSON");
}

#[test]
fn every_wrong_expectation_is_a_mismatch() {
    let caller = "0x1111111111111111111111111111111111111111";
    let contract = "0xcccccccccccccccccccccccccccccccccccccccc";
    let somewhere = "0x2222222222222222222222222222222222222222";
    let hash = format!("0x{}", "ab".repeat(32));
    type Change<'a> = (&'a str, Box<dyn FnOnce(&mut Value) + 'a>);
    let tx = |field: &'static str, value: Value| -> Change<'_> {
        (field, Box::new(move |f| f["expected"]["txs"][0][field] = value))
    };
    let cases: Vec<Change<'_>> = vec![
        tx("status", json!("revert")),
        tx("reason", json!("Stop")),
        tx("gas_used", json!(1)),
        tx("gas_refunded", json!(1)),
        tx("output_len", json!(1)),
        tx("output_hash", json!(hash)),
        tx("output", json!("0x01")),
        tx("logs", json!(2)),
        tx("logs_hash", json!(hash)),
        tx("created", json!(somewhere)),
        ("all transactions: gas_used", Box::new(|f| f["expected"]["gas_used"] = json!(1))),
        ("nonce", Box::new(|f| f["expected"]["post_state"][caller]["nonce"] = json!(9))),
        ("balance", Box::new(|f| f["expected"]["post_state"][caller]["balance"] = json!("0x1"))),
        ("slot 0x0", Box::new(|f| f["expected"]["post_state"][contract]["storage"] = json!({}))),
        ("existence", Box::new(|f| f["expected"]["post_state"][contract] = Value::Null)),
        (
            "existence",
            Box::new(|f| {
                f["expected"]["post_state"][somewhere] =
                    json!({ "balance": "0x1", "nonce": 0, "code_hash": null, "storage": {} });
            }),
        ),
    ];
    for (what, change) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let path = recorded(folder.path(), change);
        kiln(["replay", &path, "--tier", "interpreter"])
            .exits(1)
            .prints(&["mismatch", "add", what, "expected"])
            .prints(&["1 fixtures, 1 with mismatches"]);
    }
}

#[test]
fn an_empty_account_does_not_exist() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |fixture| {
        fixture["expected"]["post_state"]["0x2222222222222222222222222222222222222222"] =
            json!({ "balance": "0x0", "nonce": 0, "code_hash": null, "storage": {} });
    });
    kiln(["replay", &path, "--tier", "interpreter"]).exits(0);
}

#[test]
fn fixtures_that_lack_something() {
    type Change = (&'static str, fn(&mut Value));
    let cases: [Change; 6] = [
        ("evm-fixture-v2", |fixture| fixture["format"] = json!("evm-fixture-v2")),
        ("Constantinople", |fixture| fixture["fork"] = json!("Constantinople")),
        ("not in `codes`", |fixture| fixture["codes"] = json!({})),
        ("has the hash", |fixture| {
            let codes = fixture["codes"].as_object_mut().expect("a map");
            codes.values_mut().for_each(|code| *code = json!("0x00"));
        }),
        ("kiln record", |fixture| fixture["expected"] = Value::Null),
        ("0 expected results for 1 transactions", |fixture| {
            fixture["expected"]["txs"] = json!([]);
        }),
    ];
    for (reason, change) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let path = recorded(folder.path(), change);
        kiln(["replay", &path, "--tier", "interpreter"]).exits(2).complains(&["add.json", reason]);
    }
}

#[test]
fn a_transaction_that_is_rejected_is_a_mismatch() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |fixture| fixture["txs"][0]["nonce"] = json!(7));
    kiln(["replay", &path, "--tier", "interpreter"]).exits(1).prints(&["rejected", "nonce"]);
}

#[test]
fn gzip_and_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |_| {});
    let deep = folder.path().join("deep/deeper");
    fs::create_dir_all(&deep).expect("a folder");
    let packed = fs::File::create(deep.join("add.json.gz")).expect("a file");
    let mut packed = GzEncoder::new(packed, Compression::fast());
    packed.write_all(&fs::read(path).expect("there")).expect("writable");
    packed.finish().expect("writable");
    fs::write(deep.join("notes.txt"), "not a fixture").expect("writable");
    kiln(["replay", text(folder.path()), "--tier", "interpreter"])
        .exits(0)
        .prints(&["2 fixtures, 0 with mismatches"]);
}

#[test]
fn the_workloads_of_this_repository() {
    let workloads = repository("workloads");
    for tier in ["evaluator"].iter().chain(compiling_tiers()) {
        kiln(["replay", text(&workloads), "--tier", tier])
            .exits(0)
            .prints(&["fixtures, 0 with mismatches"]);
    }
}

#[test]
fn too_few_compiled_instructions_are_a_mismatch() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = recorded(folder.path(), |_| {});
    let replay = |tier, min| kiln(["replay", &path, "--tier", tier, "--native-share-min", min]);
    replay("evaluator", "99").exits(0);
    replay("interpreter", "50").exits(1).prints(&["less than 50%"]);
    replay("evaluator", "101").exits(2);
}
