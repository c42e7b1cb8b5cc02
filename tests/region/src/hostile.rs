//! Code that wants compiling to take long: what its regions are made of is proportional to their instructions.
//!
//! **Owns** the codes, and the bounds that are checked: counts, never times. **Callers guarantee** nothing.
//! **Never** runs what was compiled: that hostile code does what it says is `tests/tests/hostile.rs`.

use crate::{Refused, backend};
use kiln_abi::Pc;
use kiln_ir::{
    Blocks, Bounds, Config, Limits, OpcodeSet, SpecId,
    ssa::{
        self, Analysis, Choice, Function, INSTRUCTIONS_MAX, NODES_MAX, Region, SPAN_MAX, Target,
    },
};

const KIB: usize = 1024;
/// Instructions of one block, about as many as a region may have.
const REGION: usize = 590;

/// Code in the making.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
    /// Where destinations go, and of which label.
    uses: Vec<(usize, usize)>,
    /// By label, where it is.
    labels: Vec<usize>,
}

impl Code {
    fn op(&mut self, ops: &[u8]) -> &mut Self {
        self.bytes.extend(ops);
        self
    }

    /// Begins the block of the next label.
    fn label(&mut self) -> &mut Self {
        self.labels.push(self.bytes.len());
        self.op(&[0x5b])
    }

    /// Pushes the pc of a label.
    fn to(&mut self, label: usize) -> &mut Self {
        self.uses.push((self.bytes.len() + 1, label));
        self.op(&[0x62, 0, 0, 0])
    }

    /// Pushes so many words that nobody knows.
    fn words(&mut self, words: usize) -> &mut Self {
        (0..words).for_each(|n| _ = self.op(&[0x61, (n >> 8) as u8, n as u8, 0x35]));
        self
    }

    fn done(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        for &(at, label) in &self.uses {
            let pc = self.labels[label % self.labels.len()] as u32;
            bytes[at..at + 3].copy_from_slice(&pc.to_be_bytes()[1..]);
        }
        bytes
    }
}

fn repeated(unit: &[u8], bytes: usize) -> Vec<u8> {
    unit.iter().copied().cycle().take(bytes / unit.len() * unit.len()).collect()
}

/// DUPN or SWAPN of the word so far down, from 17 on.
fn deep(opcode: u8, depth: usize) -> [u8; 2] {
    [opcode, if depth < 145 { (depth + 111) as u8 } else { (depth - 145) as u8 }]
}

/// A block that swaps words of a stack of `depth`, and goes on or to some other block.
fn shuffling(bytes: usize, depth: usize, swaps: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut code = Code::default();
    code.words(depth);
    let blocks = bytes.saturating_sub(4 * depth) / (2 * swaps + 7);
    for _ in 0..blocks {
        code.label();
        for _ in 0..swaps {
            match depth {
                ..=17 => code.op(&[0x90 + rng.u8(..depth as u8 - 1)]),
                _ => code.op(&deep(0xe7, rng.usize(17..depth))),
            };
        }
        code.op(&[0x80]).to(rng.usize(..blocks)).op(&[0x57]);
    }
    code.done()
}

/// Words that change all the time, and instructions that each may leave and then write all of them.
fn many_writes(depth: usize, leave: &[u8]) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut code = Code::default();
    code.words(depth);
    for _ in 0..(REGION - 2 * depth) / (1 + leave.len()) {
        code.op(&deep(0xe7, rng.usize(17..depth))).op(leave);
    }
    code.done()
}

/// All words of a stack lie in the slot of their neighbour; then instructions that may leave.
fn shifted(depth: usize) -> Vec<u8> {
    let mut code = Code::default();
    code.op(&[0x19]);
    (17..depth).for_each(|depth| _ = code.op(&deep(0xe7, depth)));
    (0..REGION - depth).for_each(|_| _ = code.op(&[0x51]));
    code.done()
}

/// Functions that each call the next one twice.
fn calls(bytes: usize, times: usize) -> Vec<u8> {
    let mut code = Code::default();
    code.words(1);
    let functions = bytes / (8 + 10 * times);
    // A function is a label, and one for where each of its calls comes back to.
    for function in 0..functions {
        code.label();
        let own = function * (times + 1);
        for call in 0..times {
            code.to(own + call + 1).to(own + times + 1).op(&[0x56]).label();
        }
        code.op(&[0x56]);
    }
    code.label().op(&[0x56]);
    code.done()
}

/// Loops in loops, each closed behind all that it holds.
fn loops(depth: usize, body: &[u8]) -> Vec<u8> {
    let mut code = Code::default();
    code.words(2);
    (0..depth).for_each(|_| _ = code.label().op(body));
    (0..depth).rev().for_each(|head| _ = code.op(&[0x80]).to(head).op(&[0x57]));
    code.op(&[0x00]).done()
}

/// Many loops that all lie around one block, which as many blocks jump to.
fn wide_loops(bytes: usize) -> Vec<u8> {
    let mut code = Code::default();
    let (heads, jumpers) = (bytes / 32, bytes / 32);
    (0..heads).for_each(|_| _ = code.label());
    let joint = heads;
    code.label();
    // Behind it a tree, each node of which goes back to a head, too.
    let node = |node: usize| if node < heads { joint + 1 + 2 * node } else { joint };
    for head in 0..heads {
        // To its children, and the head.
        code.label().op(&[0x36]).to(node(2 * head + 1)).op(&[0x57]);
        code.op(&[0x36]).to(head).op(&[0x57]).label().to(node(2 * head + 2)).op(&[0x56]);
    }
    (0..jumpers).for_each(|_| _ = code.label().to(joint).op(&[0x56]));
    code.done()
}

/// A block again and again, as long as there is room.
fn tiled(block: &[u8], bytes: usize) -> Vec<u8> {
    repeated(&[&[0x5b], block].concat(), bytes)
}

fn random(seed: u64, opcodes: &[u8], bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| opcodes[rng.usize(..opcodes.len())]).collect()
}

/// Each takes its two words from the stack, and is one word less than before.
fn operations(op: u8, times: usize) -> Vec<u8> {
    let mut code = Code::default();
    code.words(2);
    (0..times).for_each(|_| _ = code.op(&[0x81, op]));
    code.op(&[0x5f, 0x55, 0x00]).done()
}

/// Blocks that all go to one, which goes to where calldata says.
fn dispatched(bytes: usize, depth: usize) -> Vec<u8> {
    let mut code = Code::default();
    code.words(depth).label().op(&[0x36, 0x35, 0x56]);
    while code.bytes.len() < bytes {
        code.label().op(&[0x30, 0x54, 0x50]).to(0).op(&[0x56]);
    }
    code.done()
}

/// A call from each of many places, so that where the function returns to is not known.
fn many_callers(bytes: usize) -> Vec<u8> {
    let mut code = Code::default();
    code.label().op(&[0x60, 0x01, 0x01, 0x90, 0x56]);
    let mut label = 1;
    while code.bytes.len() < bytes {
        code.label().to(label + 1).op(&[0x36]).to(0).op(&[0x56]).label().op(&[0x50]);
        label += 2;
    }
    code.done()
}

fn constants(bytes: usize, behind: &[u8]) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut code = Code::default();
    while code.bytes.len() < bytes {
        code.op(&[0x7f]).op(&std::array::from_fn::<u8, 32, _>(|_| rng.u8(..))).op(behind);
    }
    code.done()
}

/// Divisions by constants that differ.
fn divisions(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut code = Code::default();
    code.words(1);
    while code.bytes.len() < bytes {
        code.op(&[0x67])
            .op(&rng.u64(..).to_be_bytes())
            .op(&[0x90, *rng.choice(&[4, 5, 6, 7]).unwrap_or(&4)]);
    }
    code.op(&[0x5f, 0x55]).done()
}

/// Hostile codes, with their names.
pub fn codes() -> Vec<(&'static str, Vec<u8>)> {
    let large = 24 * KIB;
    let leaving = [0x51, 0x53, 0x54, 0x20, 0x37, 0xa1, 0x0a, 0x31, 0x3b, 0xf1];
    let all: Vec<u8> = (0x00..=0x20).chain(0x30..=0x5f).chain(0x80..=0xa4).collect();
    vec![
        ("JUMPDESTs", vec![0x5b; large]),
        ("branches to the next block", repeated(&[0x5b, 0x36, 0x36, 0x57], large)),
        ("dense jumps", shuffling(large, 3, 0)),
        ("dense jumps, 17 words", shuffling(large, 17, 1)),
        ("dense jumps, 17 words that move", shuffling(large, 17, 6)),
        ("dense jumps, 120 words", shuffling(large, 120, 1)),
        ("dense jumps, 120 words that move", shuffling(large, 120, 5)),
        ("dense jumps, 40 words that move", shuffling(large, 40, 5)),
        ("unresolved jumps", repeated(&[0x5b, 0x5f, 0x35, 0x56], large)),
        ("one computed jump", dispatched(large, 0)),
        ("one computed jump, 100 words", dispatched(large, 100)),
        ("many callers", many_callers(large)),
        ("calls of calls", calls(large, 2)),
        ("calls of calls of calls", calls(2 * KIB, 8)),
        ("chain of calls", calls(large, 1)),
        ("loops in loops", loops(30, &[0x36])),
        ("loops in loops that leave", loops(60, &[0x36, 0x51, 0x50])),
        ("hundreds of loops in loops", loops(400, &[])),
        ("loops around one block", wide_loops(large)),
        ("writes on MLOAD", many_writes(100, &[0x51])),
        ("writes on SLOAD", many_writes(100, &[0x54])),
        ("writes on MLOAD, 40 words", many_writes(40, &[0x51])),
        ("writes on MLOAD, 20 words", many_writes(20, &[0x51])),
        ("writes on LOG", many_writes(100, &[0x80, 0x80, 0xa0])),
        ("words in their neighbours' slots", shifted(127)),
        ("PUSH32 MLOAD", constants(7 * KIB, &[0x5f, 0x51])),
        ("blocks of PUSH32 MLOAD", tiled(&constants(7 * KIB, &[0x5f, 0x51]), large)),
        ("PUSH32 MSTORE", constants(6 * KIB, &[0x5f, 0x52])),
        ("PUSH32 MSTORE somewhere", constants(6 * KIB, &[0x36, 0x52])),
        ("PUSH32 SLOAD", constants(7 * KIB, &[0x54])),
        ("PUSH32 POP", constants(7 * KIB, &[0x50])),
        ("divisions by constants", divisions(KIB)),
        ("giant block of MUL", operations(0x02, 280)),
        ("giant block of ADD", operations(0x01, 280)),
        ("giant block of SUB", operations(0x03, 280)),
        ("giant block of ADDMOD", repeated(&[0x81, 0x81, 0x08], 585)),
        ("giant block of XOR", operations(0x18, 280)),
        ("giant block of SLT", operations(0x12, 280)),
        ("giant block of SDIV", operations(0x05, 280)),
        ("giant block of SMOD", operations(0x07, 280)),
        ("giant block of EXP", operations(0x0a, 280)),
        ("giant block of SHL", operations(0x1b, 280)),
        ("giant block of SAR", operations(0x1d, 280)),
        ("giant block of BYTE", operations(0x1a, 280)),
        ("giant block of SIGNEXTEND", operations(0x0b, 280)),
        ("giant block of KECCAK256", operations(0x20, 280)),
        ("giant block of CALLDATALOAD", repeated(&[0x35], 590)),
        ("giant block of MLOAD", repeated(&[0x51], 590)),
        ("giant block of MSTORE", repeated(&[0x80, 0x81, 0x52], 590)),
        ("giant block of TLOAD", repeated(&[0x5c], 590)),
        ("blocks of MUL", tiled(&operations(0x02, 280), large)),
        ("blocks of MLOAD", tiled(&repeated(&[0x51], 580), large)),
        ("blocks of CALLDATALOAD", tiled(&repeated(&[0x35], 580), large)),
        ("blocks of words in their neighbours' slots", tiled(&shifted(127), large)),
        ("block over the limit", repeated(&[0x35], large)),
        ("what may leave", random(5, &[&leaving[..], &[0x36; 30], &[0x5b]].concat(), large)),
        ("any bytes", random(6, &(0..=255).collect::<Vec<u8>>(), large)),
        ("any instructions", random(7, &all, large)),
    ]
}

/// The same, 1 MiB of them.
pub fn large_codes() -> Vec<(&'static str, Vec<u8>)> {
    // A little less, so that the last block is whole.
    let large = 1023 * KIB;
    vec![
        ("1 MiB of JUMPDESTs", vec![0x5b; large]),
        ("1 MiB of branches", repeated(&[0x5b, 0x36, 0x36, 0x57], large)),
        ("1 MiB of dense jumps", shuffling(large, 17, 1)),
        ("1 MiB of unresolved jumps", repeated(&[0x5b, 0x5f, 0x35, 0x56], large)),
        ("1 MiB of calls", calls(large, 2)),
        ("1 MiB of callers", many_callers(large)),
        ("1 MiB of loops", loops(large / 10, &[])),
        ("1 MiB of loops around one block", wide_loops(large)),
        ("1 MiB of PUSH32", constants(large, &[])),
        ("1 MiB of bytes", random(8, &(0..=255).collect::<Vec<u8>>(), large)),
    ]
}

/// Of the latest fork, whose instructions reach deepest.
pub fn config() -> Config {
    Config { spec: SpecId::AMSTERDAM, gas: [3; 256], replaced: OpcodeSet::default() }
}

/// All blocks run as often.
pub fn count(_: Pc) -> u64 {
    1
}

/// As many as an engine has by default.
const REGIONS_MAX: usize = 64;
/// Bytecode instructions of all regions of a code, for each of its own, and how many there may be besides.
const COPIES_RATIO: usize = 16;
const COPIES_FREE: usize = 4 * INSTRUCTIONS_MAX as usize;
/// Visits of a block by jump resolution.
const VISITS_RATIO: usize = 17;
/// SSA instructions, exits, and blocks for each instruction of a region, besides those of its entry.
const INSTS_RATIO: usize = 2;
const EXITS_RATIO: usize = 2;
/// Words that the ways out of a region write, with what the host moves.
const WRITES_MAX: usize = 8192;
/// Blocks of a function: one for the entry, and some for the predictions of each computed jump.
const BLOCKS_MAX: usize = 5 * NODES_MAX;
/// Instructions of a compiler's own for each of a region, and besides.
const LOWERED_RATIO: usize = 48;
const LOWERED_FREE: usize = 4096;
/// Bytes of machine code for each instruction of a region, and besides.
const CODE_RATIO: usize = 192;
const CODE_FREE: usize = 2048;
/// Regions of each code that are compiled: the others are like them.
const COMPILED: usize = 2;

/// Gives the regions that are chosen of a code with their functions, if they have one.
fn each_region(code: &[u8], mut each: impl FnMut(&Region, Option<Function>)) -> (usize, usize) {
    let (limits, config) = (Limits::default(), config());
    let blocks = Blocks::scan(code, &config, &limits).expect("in bounds");
    let analysis = Analysis::new(code, &blocks, &config, &limits).expect("in bounds");
    let visits = analysis.jumps().visits();
    assert!(visits <= VISITS_RATIO * blocks.blocks.len(), "{visits} visits");
    let choice = Choice { hot: 1, regions_max: REGIONS_MAX };
    let mut chosen = 0;
    for region in ssa::choose(&analysis, &count, choice) {
        chosen += region.instructions() as usize;
        each(&region, ssa::build(&analysis, &region, &limits).ok());
    }
    let instructions = blocks.blocks.iter().map(|block| block.instructions as usize).sum();
    (instructions, chosen)
}

fn check_function(name: &str, function: &Function) {
    let instructions = function.instructions as usize;
    let span = SPAN_MAX as usize;
    let blocks = function.blocks.len();
    let insts: usize = function.blocks.iter().map(|block| block.insts.len()).sum();
    // The words that are read at entry, and what tells predictions apart.
    let max = INSTS_RATIO * instructions + span + blocks;
    assert!(insts <= max, "{name}: {insts} instructions of {max}");
    assert!(blocks <= BLOCKS_MAX, "{name}: {blocks} blocks");
    let exits = function.exits.exits.len();
    let max = EXITS_RATIO * instructions + 2 * blocks + 2;
    assert!(exits <= max, "{name}: {exits} exits of {max}");
    let writes = function.stores.len() + function.exits.fixups.len();
    assert!(writes <= WRITES_MAX, "{name}: {writes} writes");
    for block in &function.blocks {
        assert!(block.params.len() <= 2 * span, "{name}: {} parameters", block.params.len());
        for target in block.terminator.targets() {
            if let Target::Block { args, .. } | Target::Back { args, .. } = target {
                assert!(args.len() <= 2 * span, "{name}: {} arguments", args.len());
            }
        }
    }
}

pub fn regions_are_bounded() {
    let (mut built, mut refused) = (0, 0);
    for (name, code) in codes().into_iter().chain(large_codes()) {
        let mut regions = 0;
        let (instructions, chosen) = each_region(&code, |region, function| {
            regions += 1;
            assert!(region.blocks() <= NODES_MAX, "{name}");
            assert!(region.instructions() <= INSTRUCTIONS_MAX, "{name}");
            match function {
                Some(function) => {
                    built += 1;
                    check_function(name, &function);
                }
                None => refused += 1,
            }
        });
        assert!(regions <= REGIONS_MAX, "{name}: {regions} regions");
        let max = COPIES_RATIO * instructions + COPIES_FREE;
        assert!(chosen <= max, "{name}: {chosen} instructions of {max}");
    }
    // Both happen, and few are refused.
    assert!(refused > 10 && built > 10 * refused, "{built} built, {refused} refused");
}

pub fn compiled_code_is_bounded() {
    let limits = Limits::default();
    let (mut compiled, mut refused) = (0, 0);
    for (name, code) in codes() {
        let mut functions = Vec::new();
        each_region(&code, |_, function| {
            functions.extend(function.filter(|_| functions.len() < COMPILED));
        });
        for function in &functions {
            let instructions = function.instructions as usize;
            let object = match backend().compile(function, Bounds::from(&limits)) {
                Ok(object) => object,
                Err(Refused::TooLarge | Refused::Text { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(other) => panic!("{name}: {other:?}"),
            };
            compiled += 1;
            let (is, max) = (object.code_len, CODE_RATIO * instructions + CODE_FREE);
            assert!(is <= max, "{name}: {is} bytes of code, of {max}");
            let (is, max) = (object.text.len(), limits.text_bytes_max(instructions));
            assert!(is <= max, "{name}: {is} bytes of text, of {max}");
            let is = backend().lowered(function);
            let max = LOWERED_RATIO * instructions + LOWERED_FREE;
            assert!(is <= max, "{name}: {is} instructions, of {max}");
        }
    }
    assert!(compiled > 60 && compiled > 10 * refused, "{compiled} compiled, {refused} refused");
}
