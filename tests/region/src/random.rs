//! Random programs, through the whole way from bytecode: compiled regions do what the evaluator does.

use crate::{
    run::compile,
    support::{edges, random, word},
    world::World,
};
use kiln_abi::{ExitId, Pc, STACK_LIMIT, Word};
use kiln_ir::{
    Blocks, Config, Limits, OpcodeSet, SpecId,
    ssa::{self, Analysis, Function, Region},
};

fn config() -> Config {
    let mut gas = [3; 256];
    gas[0x5b] = 1;
    gas[0] = 0;
    Config { spec: SpecId::OSAKA, gas, replaced: OpcodeSet::default() }
}

/// A program of some blocks, in which jumps go to other blocks with stacks that are deep enough.
struct Program<'r> {
    rng: &'r mut fastrand::Rng,
    code: Vec<u8>,
    height: usize,
    /// Where each block's pc is to be written.
    jumps: Vec<(usize, usize)>,
    starts: Vec<usize>,
    effects: bool,
    /// Long blocks in which most instructions may leave.
    dense: bool,
}

/// Opcodes that compute, with the words they take.
const WORDS: [(u8, usize); 29] = [
    (0x01, 2),
    (0x01, 2),
    (0x02, 2),
    (0x03, 2),
    (0x03, 2),
    (0x04, 2),
    (0x05, 2),
    (0x06, 2),
    (0x07, 2),
    (0x08, 3),
    (0x09, 3),
    (0x0b, 2),
    (0x10, 2),
    (0x11, 2),
    (0x12, 2),
    (0x13, 2),
    (0x14, 2),
    (0x15, 1),
    (0x16, 2),
    (0x16, 2),
    (0x17, 2),
    (0x18, 2),
    (0x19, 1),
    (0x1a, 2),
    (0x1b, 2),
    (0x1c, 2),
    (0x1c, 2),
    (0x1d, 2),
    (0x1e, 1),
];
/// Opcodes that read the environment.
const ENVIRONMENT: [u8; 8] = [0x30, 0x33, 0x34, 0x36, 0x38, 0x3d, 0x58, 0x5a];
/// Opcodes of the host, with the words they take and leave.
const HOST: [(u8, usize, usize); 17] = [
    (0x54, 1, 1),
    (0x54, 1, 1),
    (0x5c, 1, 1),
    (0x5d, 2, 0),
    (0x55, 2, 0),
    (0x55, 2, 0),
    (0xa0, 2, 0),
    (0xa2, 4, 0),
    (0x31, 1, 1),
    (0x42, 0, 1),
    (0x20, 2, 1),
    (0x20, 2, 1),
    (0x0a, 2, 1),
    (0x37, 3, 0),
    (0x39, 3, 0),
    (0x5e, 3, 0),
    (0x3b, 1, 1),
];

impl Program<'_> {
    fn push(&mut self, value: revm_primitives::U256) {
        let len = value.byte_len();
        self.code.push(0x5f + len as u8);
        self.code.extend(&value.to_be_bytes::<32>()[32 - len..]);
        self.height += 1;
    }

    fn op(&mut self, opcode: u8, takes: usize, leaves: usize) {
        while self.height < takes {
            self.constant();
        }
        self.code.push(opcode);
        self.height = self.height - takes + leaves;
    }

    fn constant(&mut self) {
        let value = match self.rng.u8(..8) {
            0 => random(self.rng),
            1 => edges()[self.rng.usize(..edges().len())],
            2 => revm_primitives::U256::MAX >> self.rng.usize(..256),
            _ => revm_primitives::U256::from(self.rng.u64(..300)),
        };
        self.push(value);
    }

    fn instruction(&mut self) {
        let dense = self.dense && self.rng.u8(..3) != 0;
        match if dense { self.rng.u8(12..26) } else { self.rng.u8(..40) } {
            0..6 => self.constant(),
            6..10 if self.height > 0 => {
                let depth = self.rng.usize(..self.height.min(16));
                self.op(0x80 + depth as u8, depth + 1, depth + 2);
            }
            10..13 if self.height > 1 => {
                let depth = 1 + self.rng.usize(..(self.height - 1).min(16));
                self.op(0x8f + depth as u8, depth + 1, depth + 1);
            }
            13 if self.height > 6 => self.op(0x50, 1, 0),
            14..16 => {
                let opcode = ENVIRONMENT[self.rng.usize(..ENVIRONMENT.len())];
                self.op(opcode, 0, 1);
            }
            16..22 => {
                // Offsets that are small, mostly.
                match self.rng.u8(..6) {
                    0 => {}
                    1 => self.op(0x16, 2, 1),
                    _ => {
                        let at = revm_primitives::U256::from(self.rng.u64(..20) * 16);
                        self.push(at);
                    }
                }
                let (opcode, takes, leaves) =
                    [(0x51, 1, 1), (0x52, 2, 0), (0x53, 2, 0), (0x35, 1, 1)][self.rng.usize(..4)];
                self.op(opcode, takes, leaves);
            }
            22..26 if self.effects => {
                let (opcode, takes, leaves) = HOST[self.rng.usize(..HOST.len())];
                self.op(opcode, takes, leaves);
            }
            _ => {
                let (opcode, takes) = WORDS[self.rng.usize(..WORDS.len())];
                self.op(opcode, takes, 1);
            }
        }
    }

    /// Pushes the pc of a block, known later.
    fn destination(&mut self, block: usize) {
        self.code.push(0x61);
        self.jumps.push((self.code.len(), block));
        self.code.extend([0, 0]);
        self.height += 1;
    }

    fn block(&mut self, blocks: usize, height: usize) {
        self.starts.push(self.code.len());
        self.code.push(0x5b);
        self.height = height;
        for _ in 0..self.rng.usize(1..if self.dense { 70 } else { 14 }) {
            self.instruction();
        }
        let target = self.rng.usize(..blocks);
        // All blocks begin at the same height.
        while self.height < height + 1 {
            self.constant();
        }
        match self.rng.u8(..8) {
            0..4 => {
                while self.height > height + 1 {
                    self.op(0x50, 1, 0);
                }
                self.destination(target);
                self.op(0x57, 2, 0);
            }
            4..6 => {
                while self.height > height {
                    self.op(0x50, 1, 0);
                }
                self.destination(target);
                self.op(0x56, 1, 0);
            }
            6 => {
                while self.height > height {
                    self.op(0x50, 1, 0);
                }
            }
            _ => {
                let opcode = [0x00, 0xf3, 0xfd, 0xf1][self.rng.usize(..4)];
                self.code.push(opcode);
            }
        }
    }
}

fn program(rng: &mut fastrand::Rng) -> Vec<u8> {
    let (effects, dense) = (rng.bool(), rng.u8(..3) == 0);
    let blocks = rng.usize(1..if dense { 5 } else { 10 });
    let height = rng.usize(..6);
    let mut program = Program {
        rng,
        code: Vec::new(),
        height: 0,
        jumps: Vec::new(),
        starts: Vec::new(),
        effects,
        dense,
    };
    for _ in 0..height {
        program.constant();
    }
    for _ in 0..blocks {
        program.block(blocks, height);
    }
    program.code.push(0);
    for (at, block) in program.jumps {
        let pc = program.starts[block] as u16;
        program.code[at..at + 2].copy_from_slice(&pc.to_be_bytes());
    }
    program.code
}

/// The regions of a program, each from another head.
fn regions(rng: &mut fastrand::Rng, code: &[u8]) -> Vec<Function> {
    let config = config();
    let blocks = Blocks::scan(code, &config, &Limits::NONE).expect("in bounds");
    let analysis = Analysis::new(code, &blocks, &config, &Limits::NONE).expect("in bounds");
    let weights: Vec<u64> = blocks.blocks.iter().map(|_| rng.u64(..100)).collect();
    let count = |pc: Pc| {
        let index = blocks.blocks.binary_search_by_key(&pc, |block| block.start);
        index.map_or(0, |index| weights[index])
    };
    let mut functions = Vec::new();
    for block in &blocks.blocks {
        let Some(region) = Region::grow(&analysis, block.start, &count) else { continue };
        let function = ssa::build(&analysis, &region, &Limits::NONE).expect("in bounds");
        ssa::verify(&function).expect("the function is verified");
        functions.push(function);
    }
    functions
}

fn world(rng: &mut fastrand::Rng, code: &[u8], function: &Function) -> World {
    let mut world = World::new(rng, code, &function.exits);
    let edges = edges();
    world.stack = (0..STACK_LIMIT).map(|_| Word([7, 7, 7, 7])).collect();
    world.height = usize::from(function.need) + rng.usize(..4);
    for slot in &mut world.stack[..world.height] {
        *slot = word(match rng.u8(..4) {
            0 => revm_primitives::U256::from(rng.u64(..200)),
            1 => edges[rng.usize(..edges.len())],
            _ => random(rng),
        });
    }
    world.gas = if rng.u8(..3) == 0 { rng.u64(..400) } else { 100_000 };
    world.poll = if rng.bool() { rng.u32(..4) } else { 300 };
    if rng.bool() {
        world.refuse_at = rng.usize(1..8);
    }
    world
}

/// Runs regions of random programs on random states; gives how often each exit kind was taken.
fn compare(seed: u64, programs: usize) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut exits = std::collections::HashSet::<(usize, ExitId)>::new();
    for index in 0..programs {
        let code = program(&mut rng);
        for function in regions(&mut rng, &code) {
            let compiled = compile(&function);
            for _ in 0..12 {
                let mut expected = world(&mut rng, &code, &function);
                let mut native = expected.clone();
                let exit = ssa::eval::run(&function, &mut expected);
                let left = native.run(&compiled, function.pc.0 as usize);
                assert_eq!(left, exit, "program {index} of {seed}\n{function}");
                expected.canonical(exit);
                native.canonical(exit);
                assert!(
                    native.state() == expected.state(),
                    "program {index} of {seed}, {exit}\n{function}\n{:x?}\n{:x?}",
                    native.state(),
                    expected.state(),
                );
                exits.insert((index, exit));
            }
        }
    }
    exits.len()
}

pub fn regions_of_random_programs_do_what_they_say() {
    let threads: Vec<_> =
        (0..2).map(|seed| std::thread::spawn(move || compare(seed, 150))).collect();
    for thread in threads {
        let exits = thread.join().expect("no difference");
        assert!(exits > 600, "only {exits} exits were taken");
    }
}
