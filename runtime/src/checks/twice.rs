//! Two compilations of one code, compared.
//!
//! **Owns** what has to be equal. **Callers guarantee** that both had the same input. **Never** compiles.

use crate::{hooks::Tier, regions::Regions};
use kiln_abi::{CodeObject, EntryTable};
use kiln_ir::Module;

/// In what the block IR differs.
pub(crate) fn modules(first: &Module, second: &Module) -> Vec<String> {
    let mut lines = Vec::new();
    count(&mut lines, "blocks", first.regions.len(), second.regions.len());
    count(&mut lines, "IR instructions", first.insts.len(), second.insts.len());
    if lines.is_empty() && first != second {
        let (first, second) = (first.to_string(), second.to_string());
        let mut pairs = first.lines().zip(second.lines());
        let differs = pairs.find(|(first, second)| first != second);
        let (first, second) = differs.unwrap_or(("the exits", "others"));
        lines.push(format!("block IR: first `{}`, then `{}`", first.trim(), second.trim()));
    }
    lines
}

/// In what optimised regions differ. `errors` are how many could not be compiled: those of LLVM that were too slow for
/// a deadline, which may be others the next time, are no difference.
pub(crate) fn regions((first, second): (&Regions, &Regions), errors: (u64, u64)) -> Vec<String> {
    let mut lines = Vec::new();
    let may_lack = first.tier() == Tier::Tier1 && errors.0 != errors.1;
    if !may_lack {
        count(&mut lines, "optimised regions", first.len(), second.len());
        count(&mut lines, "optimised instructions", first.instructions(), second.instructions());
    }
    for (head, first) in first.objects() {
        let other = second.objects().iter().find(|(pc, _)| pc == head);
        match other {
            Some((_, second)) => {
                let more = objects(first, second);
                lines.extend(more.into_iter().map(|line| format!("region {}: {line}", head.0)));
            }
            None if may_lack => {}
            None => lines.push(format!("region {}: only the first time", head.0)),
        }
    }
    let functions = first.functions().iter().zip(second.functions());
    for ((first, _), (second, _)) in functions {
        if first != second {
            lines.push(format!("region {}: its SSA form differs", first.pc.0));
        }
    }
    lines
}

/// In what machine code differs.
pub(crate) fn objects(first: &CodeObject, second: &CodeObject) -> Vec<String> {
    let mut lines = Vec::new();
    count(&mut lines, "bytes of text", first.text.len(), second.text.len());
    if let Some(at) = first.text.iter().zip(&second.text).position(|(a, b)| a != b) {
        let (first, second) = (first.text[at], second.text[at]);
        lines.push(format!("text at {at:#x}: first {first:02x}, then {second:02x}"));
    }
    count(&mut lines, "bytes of code", first.code_len, second.code_len);
    count(&mut lines, "start of the exit records", first.records, second.records);
    count(&mut lines, "blocks", first.blocks, second.blocks);
    lines.extend(entries(&first.entries, &second.entries));
    lines
}

/// In what tables of entries differ, wherever their parts lie.
fn entries(first: &EntryTable, second: &EntryTable) -> Option<String> {
    let (mut first, mut second) = (first.iter(), second.iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return None,
            (first, second) if first != second => {
                return Some(format!("entries: first {first:?}, then {second:?}"));
            }
            _ => {}
        }
    }
}

fn count(lines: &mut Vec<String>, what: &str, first: usize, second: usize) {
    if first != second {
        lines.push(format!("{what}: first {first}, then {second}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_abi::Pc;

    #[test]
    fn every_field_of_an_object_counts() {
        let object = || {
            let mut entries = EntryTable::new(8, 1);
            entries.insert(Pc(0), 16, false);
            CodeObject { text: vec![1; 64], code_len: 32, entries, records: 40, blocks: 1 }
        };
        assert!(objects(&object(), &object()).is_empty());
        let changes: [fn(&mut CodeObject); 6] = [
            |object| object.text[9] = 2,
            |object| object.text.push(0),
            |object| object.code_len = 33,
            |object| object.records = 41,
            |object| object.blocks = 2,
            |object| object.entries.insert(Pc(4), 24, true),
        ];
        for change in changes {
            let mut other = object();
            change(&mut other);
            assert_eq!(objects(&object(), &other).len(), 1, "{:?}", objects(&object(), &other));
        }
    }
}
