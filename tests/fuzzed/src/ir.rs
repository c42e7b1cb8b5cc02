//! The IR: its text, and what it makes of bytecode.

use kiln_ir::{Limits, SpecId};
use kiln_ir_tests::{blocks, regions, text};
use kiln_region_tests::support::LIBRARY;

/// A byte below 0x20 that is no white space: code follows. Anything else: text of a module.
pub fn ir(data: &[u8]) {
    match data {
        [kind @ (0..0x09 | 0x0e..0x20), gas, costs, code @ ..] => {
            of_code(*kind, [*gas, *costs], code);
        }
        data => of_text(&String::from_utf8_lossy(data)),
    }
}

/// Text is refused, or reads back as it prints. What the verifier lets pass can be evaluated, and tier 0 can compile
/// it or says why not.
fn of_text(text: &str) {
    if let Some((module, true)) = text::any(text) {
        let compiled = kiln_tier0::compile(&LIBRARY, &module, &Limits::default());
        if let Ok(object) = compiled {
            assert!(object.code_len <= object.text.len(), "{module}");
        }
    }
}

/// Code becomes a module that verifies and reads back; blocks and regions of it do what a plain interpreter does.
fn of_code(kind: u8, [gas, costs]: [u8; 2], code: &[u8]) {
    let gas = u64::from(gas) * 40;
    let mut rng = fastrand::Rng::with_seed(u64::from(costs) << 8 | u64::from(kind));
    match kind % 3 {
        0 => {
            let spec = if costs % 2 == 0 { SpecId::AMSTERDAM } else { SpecId::FRONTIER };
            text::check(code, &text::config(spec));
        }
        1 => blocks::compare(code.to_vec(), gas, blocks::costs(&mut rng), &mut 0),
        _ => regions::compare(code.to_vec(), gas, &mut rng, &mut regions::Seen::default()),
    }
}
