use super::{
    instruction,
    memo::{INPUT_BYTES_MAX, Memo, place_of},
    permutation::Permutation,
    sponge::{hash, hash_with},
};
use crate::helpers::Interp;
use revm::{
    bytecode::{Bytecode, opcode},
    interpreter::{
        GasTable, Host, InputsImpl, InstructionTable, Interpreter, SharedMemory, gas_table,
        host::DummyHost,
        instruction_table,
        interpreter::{EthInterpreter, ExtBytecode},
        interpreter_types::Jumps,
    },
    primitives::{Bytes, KECCAK_EMPTY, U256, hardfork::SpecId, keccak256},
};
use std::collections::HashMap;

/// Bytes without a pattern, the same for a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// All variants that this CPU can run.
fn permutations() -> Vec<Permutation> {
    let mut variants = vec![Permutation::PORTABLE, Permutation::fastest()];
    #[cfg(target_arch = "x86_64")]
    variants.extend([Permutation::bmi(), Permutation::avx512()].into_iter().flatten());
    variants
}

#[test]
fn every_length_hashes_like_revm_on_every_variant() {
    let data = noise(1, 600);
    for permutation in permutations() {
        for len in 0..=data.len() {
            let bytes = &data[..len];
            assert_eq!(hash_with(permutation, bytes), keccak256(bytes), "{permutation:?}, {len}");
        }
    }
    assert_eq!(hash(&[]), KECCAK_EMPTY);
}

#[test]
fn long_inputs_hash_like_revm_on_every_variant() {
    for (seed, len) in [(2, 1_000), (3, 4_095), (4, 24_576), (5, 136 * 31), (6, 136 * 64 - 1)] {
        let bytes = noise(seed, len);
        for permutation in permutations() {
            assert_eq!(hash_with(permutation, &bytes), keccak256(&bytes), "{permutation:?}, {len}");
        }
        assert_eq!(hash(&bytes), keccak256(&bytes));
    }
}

#[test]
fn unaligned_inputs_hash_like_revm() {
    let data = noise(7, 200);
    for start in 0..16 {
        assert_eq!(hash(&data[start..]), keccak256(&data[start..]));
    }
}

#[test]
fn the_memo_tells_lengths_and_single_bits_apart() {
    let mut memo = Memo::default();
    // Twice: computed, and from the memo where it is still there.
    for _ in 0..2 {
        for len in 0..=INPUT_BYTES_MAX + 8 {
            let mut bytes = vec![0; len];
            assert_eq!(memo.hash(&bytes), keccak256(&bytes), "{len} zeros");
            for bit in 0..8 * len {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(memo.hash(&bytes), keccak256(&bytes), "bit {bit} of {len} bytes");
                assert_eq!(memo.hash(&bytes), keccak256(&bytes), "bit {bit} of {len} bytes again");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

/// The input of a mapping's element.
fn mapping_key(key: u64, slot: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[24..32].copy_from_slice(&key.to_be_bytes());
    bytes[56..].copy_from_slice(&slot.to_be_bytes());
    bytes
}

#[test]
fn the_memo_keeps_what_was_asked_last() {
    let mut memo = Memo::default();
    assert!(!memo.holds(&mapping_key(0, 0)));
    let first = mapping_key(1, 1);
    for key in 0..5_000 {
        let bytes = mapping_key(key, key % 7);
        assert_eq!(memo.hash(&bytes), keccak256(bytes));
        assert!(memo.holds(&bytes));
        // Asked for between all others, so never the older one of its set.
        assert_eq!(memo.hash(&first), keccak256(first));
        assert!(key == 0 || memo.holds(&first));
    }
}

#[test]
fn the_memo_tells_inputs_of_one_place_apart() {
    let mut places = HashMap::new();
    let mut pairs = 0;
    for key in 0..4_000 {
        let bytes = mapping_key(key, 1);
        let Some(other) = places.insert(place_of(&bytes), bytes) else { continue };
        pairs += 1;
        let mut memo = Memo::default();
        for input in [other, bytes, other, bytes] {
            assert_eq!(memo.hash(&input), keccak256(input));
        }
        assert!(memo.holds(&other) && memo.holds(&bytes));
    }
    // Sets times tags are 65,536 places.
    assert!(pairs > 50, "{pairs} pairs of inputs that only the comparison tells apart");
}

#[test]
fn mapping_keys_spread_over_the_memo() {
    let shapes: [fn(u64) -> [u8; 64]; 4] = [
        |at| mapping_key(at, 3),
        |at| mapping_key(3, at),
        |at| mapping_key(at << 56, 0),
        |at| {
            let mut bytes = [0; 64];
            bytes[12..32].copy_from_slice(&noise(at, 20));
            bytes[63] = 2;
            bytes
        },
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let mut memo = Memo::default();
        for at in 0..128 {
            memo.hash(&shape(at));
        }
        let kept = (0..128).filter(|at| memo.holds(&shape(*at))).count();
        // At random, 128 inputs fill 128 sets of two so that 116 are expected to stay.
        assert!(kept >= 100, "shape {number}: {kept} of 128 kept");
    }
}

/// A frame in front of KECCAK256, as a case describes it.
struct Case {
    stack: Vec<U256>,
    gas: u64,
    /// Bytes of memory, and words of it that were paid for.
    memory: (usize, usize),
}

type Table = (InstructionTable<EthInterpreter, DummyHost>, GasTable);

/// Gas that pays for KECCAK256 of up to 64 bytes: EIP-150's 30 and 6 a word.
const ENOUGH: u64 = 30 + 2 * 6;

impl Case {
    fn new(stack: impl IntoIterator<Item = U256>) -> Self {
        Self { stack: stack.into_iter().collect(), gas: 1_000, memory: (128, 4) }
    }

    /// With nothing below the instruction's words.
    fn range(offset: U256, len: U256) -> Self {
        Self::new([len, offset])
    }

    fn gas(self, gas: u64) -> Self {
        Self { gas, ..self }
    }

    fn memory(self, bytes: usize, words: usize) -> Self {
        Self { memory: (bytes, words), ..self }
    }

    fn frame(&self) -> Interp {
        let code = Bytecode::new_legacy(Bytes::from_static(&[opcode::KECCAK256, opcode::STOP]));
        let mut memory = SharedMemory::new();
        memory.resize(self.memory.0);
        memory.set(0, &noise(8, self.memory.0));
        let mut frame = Interpreter::new(
            memory,
            ExtBytecode::new(code),
            InputsImpl::default(),
            false,
            SpecId::default(),
            self.gas,
        );
        let words = self.memory.1;
        let cost = DummyHost::new(SpecId::default()).gas_params().memory_cost(words);
        assert!(frame.gas.memory_mut().set_words_num(words, cost).is_some());
        self.stack.iter().for_each(|word| assert!(frame.stack.push(*word)));
        frame
    }

    /// Runs it both ways. Answers whether the fast one acted.
    fn check(&self, memo: &mut Memo, (table, gas): &Table) -> bool {
        let mut host = DummyHost::new(SpecId::default());
        let mut frame = self.frame();
        let acted = instruction(&mut frame, &mut host, gas, memo);
        let mut wanted = self.frame();
        if acted {
            assert_eq!(wanted.step(table, gas, &mut host), Ok(()), "{self}");
        }
        assert_same(&mut frame, &mut wanted, self);
        acted
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stack {:?}, gas {}, memory {:?}", self.stack, self.gas, self.memory)
    }
}

fn assert_same(frame: &mut Interp, wanted: &mut Interp, case: &Case) {
    assert_eq!(frame.stack, wanted.stack, "{case}");
    assert_eq!(frame.gas, wanted.gas, "{case}");
    assert_eq!(frame.bytecode.pc(), wanted.bytecode.pc(), "{case}");
    assert_eq!(frame.bytecode.action, wanted.bytecode.action, "{case}");
    assert_eq!(*frame.memory.context_memory(), *wanted.memory.context_memory(), "{case}");
    assert_eq!(frame.return_data.0, wanted.return_data.0, "{case}");
}

fn mainnet() -> Table {
    (instruction_table(), gas_table())
}

fn word(value: usize) -> U256 {
    U256::from(value)
}

#[test]
fn the_instruction_acts_like_a_step() {
    let mut memo = Memo::default();
    let table = mainnet();
    for len in 0..=INPUT_BYTES_MAX {
        for offset in [0, 1, 31, 32, 64] {
            for below in [0, 1, 5] {
                let stack = (0..below).map(word).chain([word(len), word(offset)]);
                let case = Case::new(stack);
                // The second time from the memo.
                assert!(case.check(&mut memo, &table), "{case}");
                assert!(case.check(&mut memo, &table), "{case}");
            }
        }
    }
    // revm does not look at the offset of no bytes.
    for offset in [word(usize::MAX), U256::MAX, U256::from(1) << 64] {
        let case = Case::range(offset, U256::ZERO).memory(0, 0);
        assert!(case.check(&mut memo, &table), "{case}");
    }
    let full = Case::new((0..1022).map(word).chain([word(64), word(64)]));
    assert!(full.check(&mut memo, &table));
}

#[test]
fn the_instruction_leaves_failures_and_expansion_to_a_step() {
    let mut memo = Memo::default();
    let table = mainnet();
    let (max, over) = (word(usize::MAX), U256::from(1) << 64);
    let cases = [
        Case::new([]),
        Case::new([word(32)]),
        Case::range(U256::ZERO, word(65)),
        Case::range(U256::ZERO, max),
        Case::range(U256::ZERO, over),
        Case::range(U256::ZERO, over | word(32)),
        Case::range(U256::ZERO, U256::MAX),
        Case::range(max, word(32)),
        Case::range(max - word(31), word(32)),
        Case::range(max - word(63), word(64)),
        Case::range(over, word(32)),
        Case::range(over | word(32), word(32)),
        Case::range(U256::from(1) << 192, word(1)),
        Case::range(U256::MAX, word(1)),
        // Behind the end of memory, or across it.
        Case::range(word(65), word(64)),
        Case::range(word(128), word(1)),
        Case::range(U256::ZERO, word(1)).memory(0, 0),
        // Memory without pay, and pay without memory.
        Case::range(U256::ZERO, word(64)).memory(128, 1),
        Case::range(U256::ZERO, word(64)).memory(32, 4),
        // One gas short, for each of the two charges.
        Case::range(U256::ZERO, word(64)).gas(ENOUGH - 1),
        Case::range(U256::ZERO, word(32)).gas(35),
        Case::range(U256::ZERO, U256::ZERO).gas(29),
        Case::range(U256::ZERO, word(64)).gas(0),
    ];
    for case in cases {
        assert!(!case.check(&mut memo, &table), "{case}");
    }
}

#[test]
fn the_instruction_needs_exactly_its_gas() {
    let mut memo = Memo::default();
    let table = mainnet();
    for (len, gas) in [(0, 30), (1, 36), (32, 36), (33, 42), (64, ENOUGH)] {
        let case = |gas| Case::range(U256::ZERO, word(len)).gas(gas);
        assert!(case(gas).check(&mut memo, &table), "{len} bytes for {gas}");
        assert!(!case(gas - 1).check(&mut memo, &table), "{len} bytes for one less than {gas}");
        let (mut frame, mut host) = (case(gas - 1).frame(), DummyHost::new(SpecId::default()));
        assert!(frame.step(&table.0, &table.1, &mut host).is_err(), "revm agrees on {gas}");
    }
}

#[test]
fn the_instruction_takes_static_gas_from_the_table() {
    let mut memo = Memo::default();
    let mut table = mainnet();
    table.1[opcode::KECCAK256 as usize] = 500;
    let case = |gas| Case::range(U256::ZERO, word(64)).gas(gas);
    assert!(case(512).check(&mut memo, &table));
    assert!(!case(511).check(&mut memo, &table));
}

#[test]
fn the_instruction_hashes_the_memory_of_its_own_frame() {
    let mut memo = Memo::default();
    let table = mainnet();
    let mut host = DummyHost::new(SpecId::default());
    let frame_in = |parent: &mut SharedMemory| {
        let mut frame = Case::range(U256::ZERO, word(64)).frame();
        let mut memory = parent.new_child_context();
        memory.resize(64);
        memory.set(0, &noise(9, 64));
        frame.memory = memory;
        frame
    };
    let parent = || {
        let mut parent = SharedMemory::new();
        parent.resize(64);
        parent
    };
    let (mut mine, mut revms) = (parent(), parent());
    let (mut frame, mut wanted) = (frame_in(&mut mine), frame_in(&mut revms));
    assert!(instruction(&mut frame, &mut host, &table.1, &mut memo));
    assert_eq!(wanted.step(&table.0, &table.1, &mut host), Ok(()));
    assert_eq!(frame.stack, wanted.stack);
    assert_eq!(frame.stack.data()[0], U256::from_be_bytes(keccak256(noise(9, 64)).0));
}
