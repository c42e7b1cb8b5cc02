use super::*;
use crate::{Cond, parse, verify};

/// A stack of which the words below the stack pointer are 1, 2, 3, ... from the top down.
struct Mock {
    stack: Vec<Word>,
    sp: usize,
    gas: u64,
    memory: Vec<u8>,
    /// Bytes up to which memory can be expanded.
    memory_max: u64,
    /// Whether helpers refuse.
    refuses: bool,
    /// Back-edges that may be taken.
    polls: u32,
    calls: Vec<String>,
}

impl Mock {
    fn new() -> Self {
        let stack = (0..STACK_LIMIT as u64).map(|index| word(10_u64.wrapping_sub(index))).collect();
        Self {
            stack,
            sp: 10,
            gas: 100,
            memory: vec![0; 64],
            memory_max: 256,
            refuses: false,
            polls: 1000,
            calls: Vec::new(),
        }
    }

    fn at(&self, slot: Slot) -> usize {
        self.sp.checked_add_signed(slot.0.into()).expect("a slot of the stack")
    }

    fn range(&self, offset: u64, size: u64) -> core::ops::Range<usize> {
        assert!(self.memory_covers(offset, size), "an access outside of memory");
        offset as usize..(offset + size) as usize
    }
}

impl Machine for Mock {
    fn word(&self, slot: Slot) -> Word {
        self.stack[self.at(slot)]
    }
    fn set_word(&mut self, slot: Slot, value: Word) {
        let at = self.at(slot);
        self.stack[at] = value;
    }
    fn height(&self) -> usize {
        self.sp
    }
    fn move_sp(&mut self, words: i16) {
        self.sp = self.at(Slot(words));
    }
    fn poll(&mut self) -> bool {
        let left = self.polls;
        self.polls = left.wrapping_sub(1);
        left != 0
    }
    fn gas(&self) -> u64 {
        self.gas
    }
    fn set_gas(&mut self, gas: u64) {
        self.gas = gas;
    }
    fn memory_covers(&self, offset: u64, size: u64) -> bool {
        offset.checked_add(size).is_some_and(|end| end <= self.memory.len() as u64)
    }
    fn load_word(&self, offset: u64) -> Word {
        let bytes = &self.memory[self.range(offset, 32)];
        fold::from_u256(revm_primitives::U256::from_be_slice(bytes))
    }
    fn store_word(&mut self, offset: u64, value: Word) {
        let range = self.range(offset, 32);
        self.memory[range].copy_from_slice(&fold::to_u256(value).to_be_bytes::<32>());
    }
    fn store_byte(&mut self, offset: u64, value: u8) {
        let range = self.range(offset, 1);
        self.memory[range].fill(value);
    }
    fn expand(&mut self, exit: ExitId, offset: Word, size: u64) -> bool {
        self.calls.push(format!("expand {exit} {offset} {size}"));
        let end = offset.as_u64().and_then(|offset| offset.checked_add(size));
        let end = end.filter(|&end| end <= self.memory_max);
        self.memory
            .resize(end.map_or(self.memory.len(), |end| end.next_multiple_of(32) as usize), 0);
        end.is_some()
    }
    fn calldata_word(&mut self, offset: Word) -> Word {
        self.calls.push(format!("calldata {offset}"));
        word(77)
    }
    fn environment(&self, what: Environment) -> Word {
        word(1000 + what as u64)
    }
    fn guarded(
        &mut self,
        helper: Helper,
        exit: ExitId,
        dst: Option<Slot>,
        args: [Option<Word>; 3],
    ) -> bool {
        let args: Vec<_> = args.iter().flatten().map(Word::to_string).collect();
        self.calls.push(format!("{} {exit} {dst:?} {}", helper.name(), args.join(" ")));
        if let (Some(dst), false) = (dst, self.refuses) {
            self.set_word(dst, word(99));
        }
        !self.refuses
    }
    fn instruction(&mut self, helper: Helper, exit: ExitId) -> bool {
        self.calls.push(format!("{} {exit}", helper.name()));
        !self.refuses
    }
    fn entry(&self, destination: Word) -> Option<usize> {
        (destination == word(2)).then_some(1)
    }
}

fn word(value: u64) -> Word {
    Word::from_u64(value)
}

/// A module of one region around these lines; x1 is its end, x2 stands in front of its instruction.
fn module(lines: &str) -> Module {
    let text = format!(
        "code 9\n\
         region r0 @0 need 3 grow 3 height 0 gas 10 entry x0 instructions 1\n\
         {lines}\n leave x1\n\
         exit x0 interpret @0 moved 0 height 0 gas_back 0 rest 0\n\
         exit x1 stop @0 moved 0 height 0 gas_back 0 rest 0\n\
         exit x2 interpret @0 moved 0 height 0 gas_back 10 rest 7\n"
    );
    let module = parse(&text).expect("of the grammar");
    assert_eq!(verify(&module), Ok(()), "{module}");
    module
}

#[track_caller]
fn leaves(lines: &str, machine: &mut Mock, exit: u32) {
    assert_eq!(run(&module(lines), 0, machine), ExitId(exit), "{lines}");
}

/// What the lines leave in s0.
#[track_caller]
fn result(lines: &str) -> Word {
    let mut machine = Mock::new();
    leaves(lines, &mut machine, 1);
    assert_eq!((machine.sp, machine.gas), (10, 90));
    machine.word(Slot(0))
}

#[test]
fn words() {
    // The top three words are 1, 2, 3.
    let cases = [
        ("copy s-2", 2),
        ("copy 0x1234", 0x1234),
        ("add s-1, s-2", 3),
        ("sub s-3, s-2", 1),
        ("mul s-3, 0x5", 15),
        ("and s-2, s-3", 2),
        ("or s-1, s-2", 3),
        ("xor s-1, s-3", 2),
        ("shl s-3 #4", 48),
        ("shr 0x30 #4", 3),
        ("sar 0x30 #4", 3),
        ("byte 0x1234 #30", 0x12),
        ("signextend 0x1234 #1", 0x1234),
        ("address", 1000),
        ("caller", 1001),
        ("callvalue", 1002),
        ("calldatasize", 1003),
        ("returndatasize", 1004),
        ("msize", 1005),
        // 90 are left after the charge, 4 of which are not yet due.
        ("gas #4", 94),
        ("calldataload s-1", 77),
        ("guarded.exp s-1, s-2 else x2", 99),
        ("pure.mul s-2, s-3", 6),
        ("pure.div 0x7, s-2", 3),
        ("pure.sdiv 0x7, s-2", 3),
        ("pure.rem 0x7, s-2", 1),
        ("pure.smod 0x7, s-2", 1),
        ("pure.addmod 0x7, s-2, 0x5", 4),
        ("pure.mulmod 0x7, s-2, 0x5", 4),
        ("pure.signextend 0x0, 0x7f", 0x7f),
        ("pure.byte 0x1f, 0x1234", 0x34),
        ("pure.shl s-2, s-3", 12),
        ("pure.shr s-1, s-3", 1),
        ("pure.sar s-1, s-3", 1),
        ("pure.clz s-1", 255),
    ];
    for (line, expected) in cases {
        assert_eq!(result(&format!("s0 = {line} @0")), word(expected), "{line}");
    }
    assert_eq!(result("s0 = not 0x0 @0"), Word::MAX);
    assert_eq!(
        result(
            "s0 = sar 0x8000000000000000000000000000000000000000000000000000000000000000 #255 @0"
        ),
        Word::MAX
    );
    assert_eq!(result("s0 = signextend 0x80 #0 @0").0, [!0x7f, u64::MAX, u64::MAX, u64::MAX]);
    for cond in Cond::ALL {
        let holds = fold::compare(cond, &word(1), &word(2));
        assert_eq!(result(&format!("s0 = {cond} s-1, s-2 @0")), word(holds as u64), "{cond}");
    }
}

#[test]
fn operands_are_read_before_the_destination_is_written() {
    let mut machine = Mock::new();
    leaves("s-1 = add s-1, s-1 @0\ns-1 = pure.addmod s-1, s-1, s-1 @0", &mut machine, 1);
    assert_eq!(machine.word(Slot(-1)), word(0));
}

#[test]
fn memory_within_reach() {
    assert_eq!(result("mstore 0x20, s-3 else x2 @0\ns0 = mload 0x20 unchecked @0"), word(3));
    assert_eq!(result("mstore8 0x3f, 0x1ff else x2 @0\ns0 = mload 0x20 unchecked @0"), word(0xff));
    // The word at 1 begins one byte further up.
    assert_eq!(result("mstore 0x0, s-3 else x2 @0\ns0 = mload 0x1 else x2 @0"), word(0x300));
}

#[test]
fn memory_expands() {
    let mut machine = Mock::new();
    leaves("mstore 0x41, s-3 else x2 @0\ns0 = mload 0x41 unchecked @0", &mut machine, 1);
    assert_eq!(machine.word(Slot(0)), word(3));
    assert_eq!(machine.calls, ["expand x2 0x41 32"]);
    let mut machine = Mock::new();
    leaves("mstore8 0x40, s-3 else x2 @0\nmstore8 s-1, s-3 else x2 @0", &mut machine, 1);
    assert_eq!(machine.calls, ["expand x2 0x40 1"]);
}

#[test]
fn memory_out_of_reach_leaves() {
    for line in ["s0 = mload s-1", "mstore s-1, s-2", "mstore8 s-1, s-2"] {
        for offset in [word(1 << 20), word(u64::MAX), Word([0, 1, 0, 0]), Word::MAX] {
            let mut machine = Mock::new();
            machine.set_word(Slot(-1), offset);
            let before = (machine.stack.clone(), machine.memory.clone());
            leaves(&format!("{line} else x2 @0"), &mut machine, 2);
            assert_eq!((machine.stack, machine.memory, machine.gas), (before.0, before.1, 90));
        }
    }
}

#[test]
#[should_panic(expected = "reaches outside of memory unchecked")]
fn an_unchecked_access_outside_of_memory_is_a_broken_invariant() {
    let mut module = module("s0 = mload 0x1000 else x2 @0");
    module.insts[0].checked = false;
    run(&module, 0, &mut Mock::new());
}

#[test]
fn helpers() {
    let lines = "s1 = guarded.keccak256 s-1, 0x5 else x2 @0\n\
                 guarded.mcopy s-1, s-2, s-3 else x2 @0\n\
                 guarded.tstore s-1, s-2 else x2 @0\n\
                 run.sstore else x2 @0\nrun.log else x2 @0";
    let mut machine = Mock::new();
    leaves(lines, &mut machine, 1);
    let calls = [
        "keccak256 x2 Some(Slot(1)) 0x1 0x5",
        "mcopy x2 None 0x1 0x2 0x3",
        "tstore x2 None 0x1 0x2",
        "sstore x2",
        "log x2",
    ];
    assert_eq!(machine.calls, calls);
    for line in lines.lines() {
        let mut machine = Mock { refuses: true, ..Mock::new() };
        leaves(&format!("{line}\ns0 = calldataload 0x0 @0"), &mut machine, 2);
        assert_eq!(machine.calls.len(), 1, "went on behind a helper that refused");
    }
}

#[test]
fn the_precondition_leaves_everything_untouched() {
    let line = "s0 = calldataload 0x0 @0";
    for (sp, gas, exit) in [
        (10, 10, 1),
        (10, 9, 0),
        (10, 0, 0),
        (3, 10, 1),
        (2, 10, 0),
        (0, 10, 0),
        (STACK_LIMIT - 3, 10, 1),
        (STACK_LIMIT - 2, 10, 0),
        (STACK_LIMIT, 10, 0),
    ] {
        let mut machine = Mock { sp, gas, ..Mock::new() };
        leaves(line, &mut machine, exit);
        assert_eq!(machine.calls.is_empty(), exit == 0, "stack {sp}, gas {gas}");
        assert_eq!((machine.sp, machine.gas), (sp, gas - u64::from(exit) * 10));
    }
}

/// r0 compares its top words; r1 counts the word below down.
const LOOP: &str = "\
code 9
region r0 @0 need 2 grow 0 height -1 gas 3 entry x0 instructions 1
  jump s-1 else x1
region r1 @2 jumpdest need 1 grow 1 height 0 gas 5 entry x2 instructions 1
  s-1 = sub s-1, 0x1 @2
  if ne s-1, 0x0 then r1 poll x4 else x3
exit x0 interpret @0 moved 0 height 0 gas_back 0 rest 0
exit x1 interpret @0 moved -1 height 0 gas_back 3 rest 0
exit x2 interpret @2 moved 0 height 0 gas_back 0 rest 0
exit x3 resume @5 moved 0 height 0 gas_back 0 rest 0
exit x4 resume @2 moved 0 height 0 gas_back 0 rest 0
";

#[test]
fn jumps_and_loops() {
    let module = parse(LOOP).expect("of the grammar");
    assert_eq!(verify(&module), Ok(()));
    let mut machine = Mock::new();
    machine.stack[8..10].copy_from_slice(&[word(4), word(2)]);
    assert_eq!(run(&module, 0, &mut machine), ExitId(3));
    assert_eq!((machine.sp, machine.gas, machine.stack[8]), (9, 100 - 3 - 4 * 5, word(0)));
    // No region there: the pointer has moved all the same.
    machine = Mock::new();
    assert_eq!(run(&module, 0, &mut machine), ExitId(1));
    assert_eq!((machine.sp, machine.gas), (9, 97));
    // The gas runs out in the middle, from the untouched state of a region.
    machine = Mock { gas: 3 + 2 * 5 + 4, ..Mock::new() };
    machine.stack[8..10].copy_from_slice(&[word(4), word(2)]);
    assert_eq!(run(&module, 0, &mut machine), ExitId(2));
    assert_eq!((machine.sp, machine.gas, machine.stack[8]), (9, 4, word(2)));
}

#[test]
fn a_back_edge_that_finds_the_countdown_over_leaves_at_its_target() {
    let module = parse(LOOP).expect("of the grammar");
    let mut machine = Mock { polls: 2, ..Mock::new() };
    machine.stack[8..10].copy_from_slice(&[word(4), word(2)]);
    assert_eq!(run(&module, 0, &mut machine), ExitId(4));
    // Three rounds were run, and the fourth is not charged.
    assert_eq!((machine.sp, machine.gas, machine.stack[8]), (9, 100 - 3 - 3 * 5, word(1)));
    // Where the host does not set the countdown again, it wraps.
    assert_eq!(run(&module, 1, &mut machine), ExitId(3));
    assert_eq!((machine.sp, machine.gas, machine.stack[8]), (9, 100 - 3 - 4 * 5, word(0)));
}
