//! The text form, from seeds and from texts that are nearly right: `kiln_ir_tests::text`.

use kiln_ir::SpecId;
use kiln_ir_tests::text::{any, check, config};

#[test]
fn random_bytes() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..5_000 {
        let code: Vec<u8> = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();
        let spec = if rng.bool() { SpecId::AMSTERDAM } else { SpecId::FRONTIER };
        check(&code, &config(spec));
    }
}

/// Code that mostly finds its operands on the stack.
fn plausible(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..rng.usize(1..200) {
        match rng.u8(..20) {
            0..6 => code.extend([0x60, rng.u8(..)]),
            6 => code.extend([0x61, rng.u8(..2), rng.u8(..)]),
            7 => {
                code.push(0x7f);
                code.extend((0..32).map(|_| rng.u8(..)));
            }
            8..10 => code.push(0x80 + rng.u8(..16)),
            10..12 => code.push(0x90 + rng.u8(..16)),
            12 => code.push(0x5b),
            13 => code
                .extend([0x56, 0x57, 0xf3, 0xfd, 0x00, 0xf1, 0x50][rng.usize(..7)..][..1].iter()),
            14 => code.push([0x51, 0x52, 0x53, 0x35, 0x5a, 0x59][rng.usize(..6)]),
            15 => code.push(
                [0x20, 0x37, 0x39, 0x3e, 0x5e, 0x54, 0x55, 0x5c, 0x5d, 0xa2][rng.usize(..10)],
            ),
            16 => code.extend([0xe6 + rng.u8(..3), rng.u8(..)]),
            17 => code.push(0x30 + rng.u8(..0x10)),
            _ => code.push([rng.u8(1..0x0c), rng.u8(0x10..0x1f)][rng.usize(..2)]),
        }
    }
    code
}

#[test]
fn random_plausible_code() {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut insts = 0;
    for _ in 0..10_000 {
        let code = plausible(&mut rng);
        insts += check(&code, &config(SpecId::AMSTERDAM)).insts.len();
    }
    assert!(insts > 100_000, "the generator makes hardly any instructions: {insts}");
}

#[test]
fn edges() {
    let config = config(SpecId::CANCUN);
    check(&[], &config);
    check(&[0x60], &config);
    check(&[0x5b; 65_536], &config);
    check(&[0x60, 0x00, 0x56].repeat(20_000), &config);
    check(&[0x5f, 0x5f, 0x57].repeat(20_000), &config);
    check(&[0x5f].repeat(1_100), &config);
    check(&[0x80].repeat(1_100), &config);
    check(&[0x9f, 0x89, 0xff], &config);
}

#[test]
fn shipped_contracts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/bytecode");
    let mut contracts = 0;
    for file in std::fs::read_dir(folder).expect("the shipped workloads") {
        let path = file.expect("a folder entry").path();
        let text = std::fs::read_to_string(&path).expect("bytecode in hexadecimal");
        let digits = text.trim().trim_start_matches("0x");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
        let code: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
        let module = check(&code.expect("hexadecimal"), &config(SpecId::OSAKA));
        assert!(!module.insts.is_empty(), "{}", path.display());
        contracts += 1;
    }
    assert_ne!(contracts, 0);
}

/// Texts of modules with a few tokens changed: most are refused by the parser, some by the verifier, some run.
#[test]
fn nearly_right_texts() {
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut read, mut valid) = (0, 0);
    let rounds = 4_000;
    for _ in 0..rounds {
        let mut code = plausible(&mut rng);
        code.truncate(60);
        let text = check(&code, &config(SpecId::AMSTERDAM)).to_string();
        let mut tokens: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
        for _ in 0..rng.usize(..3) {
            let (from, to) = (rng.usize(..tokens.len()), rng.usize(..tokens.len()));
            match rng.u8(..3) {
                0 => tokens[to] = tokens[from],
                1 => _ = tokens.remove(to),
                _ => tokens.swap(from, to),
            }
        }
        if let Some((_, is_valid)) = any(&tokens.concat()) {
            read += 1;
            valid += usize::from(is_valid);
        }
    }
    assert!(valid > rounds / 3 && read > valid && read < rounds, "{read} {valid}");
}
