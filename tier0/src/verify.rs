//! The verifier: from two compilations of a stencil to its shape.
//!
//! **Owns** the proof that a stencil can be cut out of the function Cranelift made and patched: every
//! byte is a decoded instruction; every byte that differs between the two compilations lies in an
//! immediate or displacement whose two values name the same field; prologue, epilogues, relocations
//! and the use of registers are exactly as expected. **Callers guarantee** that the two compilations
//! differ in the magic values only. **Never** repairs: what is not as expected is refused.

use crate::{
    LibraryError,
    key::Key,
    operand::{Field, Magic},
    stencil::{Authored, Symbol, Width},
    x86::{self, Flow, Insn},
};

/// `push rbp; mov rbp, rsp`
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// `mov rsp, rbp`
const RESTORE_SP: [u8; 3] = [0x48, 0x89, 0xec];
/// `pop rbp`
const RESTORE_BP: [u8; 1] = [0x5d];
/// rsi and rdi: context and stack pointer, which only addresses name.
const STATE: u16 = 1 << 6 | 1 << 7;
/// rax, rcx, rdx, r8 to r11.
const SCRATCH: u16 = 0b0000_1111_0000_0111;

/// A place in an instruction where a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Offset in the instruction.
    pub at: usize,
    /// Bytes: 1 or 4.
    pub size: usize,
    /// The field.
    pub field: Field,
    /// What is added to it.
    pub add: u8,
    /// Whether this is the displacement, else the immediate.
    pub disp: bool,
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the node with this index.
    Node(usize),
    /// Behind the stencil's hot part.
    End,
    /// Elsewhere.
    Symbol(Symbol),
}

/// An instruction of a stencil.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its bytes, fields and branch offsets zero.
    pub bytes: Vec<u8>,
    /// How it is laid out.
    pub insn: Insn,
    /// Where fields are written.
    pub sites: Vec<Site>,
    /// Offset, symbol and width of a reference that is not a branch.
    pub reference: Option<(usize, Symbol, Width)>,
    /// Where it branches to.
    pub target: Option<Target>,
}

/// A stencil without prologue and epilogue.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// The hot instructions, then the cold ones.
    pub nodes: Vec<Node>,
    /// Number of hot ones.
    pub hot: usize,
}

/// Explains two compilations of a stencil, or refuses them.
pub(crate) fn verify(key: Key, authored: &[Authored; 2]) -> Result<Shape, LibraryError> {
    let refuse = |(at, what)| LibraryError::Refused { stencil: format!("{key:?}"), at, what };
    explain(key, authored).and_then(cut).map_err(refuse)
}

type Refusal = (usize, &'static str);

/// Decodes both, and finds the fields. Branch targets are byte offsets in `Target::Node` until the
/// end, where they become indices.
fn explain(key: Key, [first, second]: &[Authored; 2]) -> Result<Vec<Node>, Refusal> {
    if first.bytes.len() != second.bytes.len() {
        return Err((0, "the two compilations differ in length"));
    }
    if first.relocs != second.relocs {
        return Err((0, "the two compilations differ in relocations"));
    }
    if !first.bytes.starts_with(&PROLOGUE) || !second.bytes.starts_with(&PROLOGUE) {
        return Err((0, "unexpected prologue"));
    }
    let (mut nodes, mut starts, mut relocs) = (Vec::new(), Vec::new(), 0);
    let mut at = PROLOGUE.len();
    while at < first.bytes.len() {
        let insn = x86::decode(&first.bytes[at..]).ok_or((at, "unknown instruction"))?;
        let bytes = [&first.bytes[at..at + insn.len], &second.bytes[at..at + insn.len]];
        let mut node = fields(bytes, insn).map_err(|what| (at, what))?;
        for &(offset, symbol, width) in &first.relocs {
            if (at..at + insn.len).contains(&offset) {
                refer(&mut node, offset - at, symbol, width).map_err(|what| (at, what))?;
                relocs += 1;
            }
        }
        registers(key, &node).map_err(|what| (at, what))?;
        branch(&mut node, bytes[0], at, first.bytes.len()).map_err(|what| (at, what))?;
        nodes.push(node);
        starts.push(at);
        at += insn.len;
    }
    if relocs != first.relocs.len() {
        return Err((at, "a relocation lies in no instruction"));
    }
    for (node, &start) in nodes.iter_mut().zip(&starts) {
        if let Some(Target::Node(offset)) = &mut node.target {
            *offset = starts
                .binary_search(offset)
                .map_err(|_| (start, "a branch into an instruction"))?;
        }
    }
    Ok(nodes)
}

/// Finds the fields of one instruction, and checks that nothing else differs.
fn fields([first, second]: [&[u8]; 2], insn: Insn) -> Result<Node, &'static str> {
    let mut bytes = first.to_vec();
    let mut other = second.to_vec();
    let mut sites = Vec::new();
    for (place, disp) in [(insn.disp, true), (insn.imm, false)] {
        let Some((at, size)) = place else { continue };
        if first[at..at + size] == second[at..at + size] {
            // A constant of the stencil's own, unless it happens to be a field's value in both.
            continue;
        }
        let (field, add) = match size {
            1 => {
                let field = Magic::SETS[0].byte(first[at]);
                if field.is_none() || field != Magic::SETS[1].byte(second[at]) {
                    return Err("an 8-bit difference that is no field");
                }
                (field.expect("checked above"), 0)
            }
            4 => {
                let value = |bytes: &[u8]| {
                    i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
                };
                let site = Magic::SETS[0].long(value(first));
                if site.is_none() || site != Magic::SETS[1].long(value(second)) {
                    return Err("a 32-bit difference that is no field");
                }
                site.expect("checked above")
            }
            _ => return Err("a difference in a field of unexpected size"),
        };
        bytes[at..at + size].fill(0);
        other[at..at + size].fill(0);
        sites.push(Site { at, size, field, add, disp });
    }
    if bytes != other {
        return Err("a difference outside of immediates and displacements");
    }
    Ok(Node { bytes, insn, sites, reference: None, target: None })
}

/// Notes a relocation of an instruction.
fn refer(node: &mut Node, at: usize, symbol: Symbol, width: Width) -> Result<(), &'static str> {
    let insn = &node.insn;
    let expected = match (insn.flow, width) {
        (Flow::Call | Flow::Jmp, Width::Relative) => insn.imm == Some((at, 4)),
        (Flow::Next, Width::Relative) => {
            insn.rip && insn.disp == Some((at, 4)) && insn.imm.is_none()
        }
        (Flow::Next, Width::Absolute) => insn.imm == Some((at, 8)),
        _ => false,
    };
    if !expected || node.reference.is_some() || node.target.is_some() {
        return Err("an unexpected relocation");
    }
    if insn.flow == Flow::Next {
        node.reference = Some((at, symbol, width));
    } else {
        node.target = Some(Target::Symbol(symbol));
    }
    Ok(())
}

/// Finds where a branch without relocation goes.
fn branch(node: &mut Node, bytes: &[u8], at: usize, len: usize) -> Result<(), &'static str> {
    if node.insn.rip && node.reference.is_none() {
        return Err("an address behind the code");
    }
    match node.insn.flow {
        Flow::Next | Flow::JmpIndirect => return Ok(()),
        Flow::Call if node.target.is_none() => return Err("a call of the stencil itself"),
        _ if node.target.is_some() => return Ok(()),
        _ => {}
    }
    let field = node.insn.imm.ok_or("a branch without offset")?.0;
    let offset = [0, 1, 2, 3].map(|i| bytes[field + i]);
    let target = (at + node.insn.len) as i64 + i64::from(i32::from_le_bytes(offset));
    if !(PROLOGUE.len() as i64..len as i64).contains(&target) {
        return Err("a branch out of the stencil");
    }
    node.target = Some(Target::Node(target as usize));
    Ok(())
}

/// Checks that only scratch registers are used, and the state only as addresses.
fn registers(key: Key, node: &Node) -> Result<(), &'static str> {
    if is(node, &RESTORE_SP) || is(node, &RESTORE_BP) {
        return Ok(());
    }
    let operands = SCRATCH | if key == Key::Adjust { 1 << 7 } else { 0 };
    if node.insn.operand_regs & !operands != 0 {
        return Err("a register that stencils do not own");
    }
    if node.insn.address_regs & !(SCRATCH | STATE) != 0 {
        return Err("an address with a register that stencils do not own");
    }
    let slot = node
        .sites
        .iter()
        .any(|site| site.disp && matches!(site.field, Field::Dst | Field::A | Field::B));
    if slot && node.insn.address_regs != 1 << 7 {
        return Err("a slot that is not relative to the stack pointer");
    }
    Ok(())
}

fn is(node: &Node, bytes: &[u8]) -> bool {
    node.bytes == bytes
}

/// Whether control never goes on behind the instruction.
fn ends(node: &Node) -> bool {
    matches!(node.insn.flow, Flow::Jmp | Flow::JmpIndirect)
}

/// Removes epilogues, the jump to the next stencil, and cold blocks that are one jump.
fn cut(nodes: Vec<Node>) -> Result<Shape, Refusal> {
    let count = nodes.len();
    let mut keep = vec![true; count];
    for i in 0..count {
        if is(&nodes[i], &RESTORE_SP) {
            let tail = nodes.get(i + 1).is_some_and(|node| is(node, &RESTORE_BP))
                && nodes.get(i + 2).is_some_and(|node| {
                    matches!(node.target, Some(Target::Symbol(_))) && node.insn.flow == Flow::Jmp
                        || node.insn.flow == Flow::JmpIndirect
                });
            if !tail {
                return Err((i, "an unexpected epilogue"));
            }
            keep[i..i + 2].fill(false);
        } else if is(&nodes[i], &RESTORE_BP) && keep[i] {
            return Err((i, "an unexpected pop"));
        }
        if nodes[i].insn.flow == Flow::Call
            && !nodes.get(i + 1).is_some_and(|node| is(node, &RESTORE_SP))
        {
            return Err((i, "code behind a call"));
        }
    }
    let hot_end = nodes.iter().position(ends).ok_or((count, "the stencil does not end"))?;
    let mut nodes = thread(nodes)?;
    drop_redundant_tests(&nodes, &mut keep);
    match nodes[hot_end].target {
        Some(Target::End) => keep[hot_end] = false,
        None if nodes[hot_end].insn.flow == Flow::JmpIndirect => {}
        _ => return Err((hot_end, "the hot part does not end in the next stencil")),
    }
    // A cold jump that nothing falls into is never reached: branches to it were threaded.
    for i in hot_end + 1..count {
        let mut before = i;
        while before > 0 && !keep[before - 1] && before - 1 > hot_end {
            before -= 1;
        }
        if ends(&nodes[i]) && ends(&nodes[before - 1]) {
            keep[i] = false;
        }
    }
    if !ends(&nodes[count - 1]) {
        return Err((count, "the stencil falls off its end"));
    }
    renumber(&mut nodes, &keep)?;
    let hot = keep[..=hot_end].iter().filter(|&&keep| keep).count();
    let mut keep = keep.into_iter();
    nodes.retain(|_| keep.next().unwrap_or(false));
    Ok(Shape { nodes, hot })
}

/// Retargets branches to jumps: they go where the jump goes.
fn thread(mut nodes: Vec<Node>) -> Result<Vec<Node>, Refusal> {
    for node in &mut nodes {
        match &mut node.target {
            Some(target @ Target::Symbol(Symbol::Next)) => *target = Target::End,
            Some(target @ Target::Symbol(Symbol::Back)) => *target = Target::Node(0),
            _ => {}
        }
    }
    for i in 0..nodes.len() {
        let Some(Target::Node(mut to)) = nodes[i].target else { continue };
        if is(&nodes[to], &RESTORE_SP) {
            to += 2;
        }
        if nodes[to].insn.flow == Flow::Jmp {
            nodes[i].target = nodes[to].target;
        } else if to != 0 && is(&nodes[to - 1], &RESTORE_BP) {
            return Err((i, "a branch to a computed jump"));
        }
    }
    Ok(nodes)
}

/// `or r, x` sets the flags that `test r, r` would.
fn drop_redundant_tests(nodes: &[Node], keep: &mut [bool]) {
    for i in 1..nodes.len() {
        let (or, test) = (&nodes[i - 1], &nodes[i]);
        let [.., 0x85, modrm] = test.bytes[..] else { continue };
        let Some(or_modrm_at) = or.insn.modrm_at else { continue };
        let is_target = nodes.iter().any(|node| node.target == Some(Target::Node(i)));
        if is_target || !or.insn.one_byte || test.bytes.len() != 3 || modrm >> 6 != 3 {
            continue;
        }
        let (rex, or_rex) = (test.bytes[0], or.bytes[0]);
        if rex & 0xf8 != 0x48 || or_rex & 0xf8 != 0x48 || (rex & 1 != 0) != (rex & 4 != 0) {
            continue;
        }
        let same = modrm & 7 == modrm >> 3 & 7;
        let tested = modrm & 7 | (rex & 1) << 3;
        let or_modrm = or.bytes[or_modrm_at];
        let written = match or.bytes[or.insn.opcode_at] {
            0x0b => or_modrm >> 3 & 7 | (or_rex & 4) << 1,
            0x09 if or_modrm >> 6 == 3 => or_modrm & 7 | (or_rex & 1) << 3,
            _ => continue,
        };
        if same && written == tested {
            keep[i] = false;
        }
    }
}

/// Makes branch targets indices of the kept nodes.
fn renumber(nodes: &mut [Node], keep: &[bool]) -> Result<(), Refusal> {
    let new: Vec<usize> = keep
        .iter()
        .scan(0, |next, &keep| {
            let index = *next;
            *next += keep as usize;
            Some(index)
        })
        .collect();
    for i in 0..nodes.len() {
        if let Some(Target::Node(to)) = &mut nodes[i].target {
            if !keep[*to] && keep[i] {
                return Err((i, "a branch to what was cut"));
            }
            *to = new[*to];
        }
    }
    Ok(())
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{isa, stencil::Author};

    /// Both compilations of every stencil.
    fn pairs() -> Vec<(Key, [Authored; 2])> {
        let isa = isa::host().expect("a supported host");
        let mut author = Author::new(&*isa);
        let mut both = |key, wide| {
            [0, 1].map(|set| author.author(key, &Magic::SETS[set], wide).expect("compiles"))
        };
        let wide = Key::all().into_iter().filter(|key| key.is_wide()).map(|key| (key, true));
        let all = Key::all().into_iter().map(|key| (key, false)).chain(wide);
        all.map(|(key, wide)| (key, both(key, wide))).collect()
    }

    /// Only these are other code where words are handled whole.
    #[test]
    fn what_is_wide_is_known() {
        let isa = isa::host().expect("a supported host");
        let mut author = Author::new(&*isa);
        for key in Key::all() {
            let mut bytes =
                |wide| author.author(key, &Magic::SETS[0], wide).expect("compiles").bytes;
            assert_eq!(bytes(false) != bytes(true), key.is_wide(), "{key:?}");
        }
    }

    #[test]
    fn every_stencil_is_explained() {
        for (key, pair) in pairs() {
            let shape = verify(key, &pair).unwrap_or_else(|error| panic!("{error}"));
            assert!(shape.hot > 0 && shape.hot <= shape.nodes.len(), "{key:?}");
        }
    }

    #[test]
    fn a_byte_that_differs_in_one_compilation_is_refused() {
        for (key, pair) in pairs() {
            for which in 0..2 {
                for at in 0..pair[which].bytes.len() {
                    let mut corrupt = pair.clone();
                    corrupt[which].bytes[at] ^= 0x04;
                    assert!(verify(key, &corrupt).is_err(), "{key:?}: byte {at}");
                }
            }
        }
    }

    /// Such a stencil may be accepted: a wrong operation is found by running it. But nothing breaks.
    #[test]
    fn a_byte_that_is_wrong_in_both_compilations_breaks_nothing() {
        for (key, pair) in pairs() {
            for at in 0..pair[0].bytes.len() {
                for bit in 0..8 {
                    let mut corrupt = pair.clone();
                    corrupt.iter_mut().for_each(|authored| authored.bytes[at] ^= 1 << bit);
                    if let Ok(shape) = verify(key, &corrupt) {
                        let short: Vec<_> = shape.shortable().iter().map(|short| short.0).collect();
                        assert!(!shape.assemble(&short)[0].bytes.is_empty());
                    }
                }
            }
        }
    }

    /// What of a stencil the proof is about, broken on purpose.
    #[test]
    fn what_is_not_as_expected_is_refused() {
        let find = |key: Key| {
            pairs().into_iter().find(|(other, _)| *other == key).expect("a stencil of that key").1
        };
        let copy = Key::Copy(crate::key::Kind::Slot);
        let both = |key: Key, change: fn(&mut Authored)| {
            let mut pair = find(key);
            pair.iter_mut().for_each(change);
            verify(key, &pair).map(|_| ()).map_err(|error| error.to_string())
        };
        let refused = |key: Key, change: fn(&mut Authored), words: &str| {
            let error = both(key, change).expect_err(words);
            assert!(error.contains(words), "{error}, not {words}");
        };
        refused(copy, |a| a.bytes[0] = 0x56, "prologue");
        refused(copy, |a| a.bytes.extend([0; 16]), "falls off its end");
        refused(copy, |a| a.bytes[4] = 0x4d, "do not own");
        refused(copy, |a| a.bytes[6] ^= 1, "not relative to the stack pointer");
        refused(copy, |a| _ = a.relocs.pop(), "");
        refused(copy, |a| a.relocs.push((5, Symbol::PoolA, Width::Relative)), "relocation");
        refused(Key::Call, |a| _ = a.bytes.splice(9..9, [0x90]), "unknown instruction");
        refused(Key::Call, |a| _ = a.relocs.remove(0), "");
    }
}
