//! The text form: what the builder makes of any bytecode passes the verifier and reads back as the same module; what
//! any text is read as prints and reads as the same again, and if the verifier lets it pass it can be run.

use crate::hex;
use core::cell::Cell;
use kiln_abi::{ExitId, Helper, STACK_LIMIT, Slot, Word};
use kiln_ir::eval::{Environment, Machine, run_until};
use kiln_ir::{Blocks, Config, Limits, Module, OpcodeSet, SpecId, build, parse, verify};

/// Regions that are run of what any text means.
const STEPS_MAX: usize = 256;
/// Bytes of memory there may be.
const MEMORY_MAX: u64 = 1 << 12;

/// A fork with a gas table in which nearly everything costs the same.
pub fn config(spec: SpecId) -> Config {
    let mut gas = [3; 256];
    gas[0] = 0; // STOP
    gas[0xf3] = 0; // RETURN
    gas[0x5b] = 1; // JUMPDEST
    Config { spec, gas, replaced: OpcodeSet::EMPTY }
}

/// What bytecode becomes passes the verifier, and its text is the module.
pub fn check(code: &[u8], config: &Config) -> Module {
    let limits = Limits::default();
    let blocks = Blocks::scan(code, config, &limits).expect("within the limits");
    let module = build(code, &blocks, config, &limits, &|_| true).expect("within the limits");
    if let Err(error) = verify(&module) {
        panic!("{error}\ncode {}\n{module}", hex(code));
    }
    let text = module.to_string();
    assert_eq!(parse(&text).as_ref(), Ok(&module), "code {}\n{text}", hex(code));
    module
}

/// Whether any text is a module, and if so whether it is one that may be run: then it is, from every region.
pub fn any(text: &str) -> Option<(Module, bool)> {
    let module = parse(text).ok()?;
    let printed = module.to_string();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again, module, "{printed}");
    let is_valid = verify(&module).is_ok();
    if is_valid {
        (0..module.regions.len().min(STEPS_MAX)).for_each(|region| evaluate(&module, region));
    }
    Some((module, is_valid))
}

fn evaluate(module: &Module, region: usize) {
    let mut tiny = Tiny {
        words: vec![Word::from_u64(region as u64); 2 * STACK_LIMIT],
        sp: STACK_LIMIT / 2,
        gas: 1 << 20,
        memory: vec![0x5a; 64],
        calls: 0,
        leaders: module.regions.iter().map(|region| (region.pc.0, region.is_jumpdest)).collect(),
    };
    let steps = Cell::new(0);
    let stops = |_| {
        steps.set(steps.get() + 1);
        steps.get() > STEPS_MAX
    };
    match run_until(module, region, &mut tiny, stops) {
        Ok(exit) => assert!((exit.0 as usize) < module.exits.exits.len(), "{exit}\n{module}"),
        Err(_) => assert!(steps.get() > STEPS_MAX),
    }
}

/// A host that answers something, and refuses now and then.
struct Tiny {
    words: Vec<Word>,
    sp: usize,
    gas: u64,
    memory: Vec<u8>,
    calls: u64,
    leaders: Vec<(u32, bool)>,
}

impl Tiny {
    fn at(&self, slot: Slot) -> usize {
        (self.sp as isize + slot.0 as isize) as usize
    }

    fn refuses(&mut self) -> bool {
        self.calls += 1;
        self.calls.is_multiple_of(5)
    }
}

impl Machine for Tiny {
    fn word(&self, slot: Slot) -> Word {
        self.words[self.at(slot)]
    }
    fn set_word(&mut self, slot: Slot, value: Word) {
        let at = self.at(slot);
        self.words[at] = value;
    }
    fn height(&self) -> usize {
        self.sp
    }
    fn move_sp(&mut self, words: i16) {
        self.sp = self.at(Slot(words));
    }
    fn poll(&mut self) -> bool {
        !self.refuses()
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
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.memory[offset as usize..][..32]);
        kiln_ir::fold::from_u256(revm_primitives::U256::from_be_bytes(bytes))
    }
    fn store_word(&mut self, offset: u64, value: Word) {
        let bytes = kiln_ir::fold::to_u256(value).to_be_bytes::<32>();
        self.memory[offset as usize..][..32].copy_from_slice(&bytes);
    }
    fn store_byte(&mut self, offset: u64, value: u8) {
        self.memory[offset as usize] = value;
    }
    fn expand(&mut self, _: ExitId, offset: Word, size: u64) -> bool {
        let end = offset.as_u64().and_then(|offset| offset.checked_add(size));
        let Some(end) = end.filter(|&end| end <= MEMORY_MAX) else { return false };
        self.memory.resize((end as usize).next_multiple_of(32), 0);
        true
    }
    fn calldata_word(&mut self, offset: Word) -> Word {
        offset
    }
    fn environment(&self, what: Environment) -> Word {
        Word::from_u64(what as u64)
    }
    fn guarded(
        &mut self,
        _: Helper,
        _: ExitId,
        dst: Option<Slot>,
        args: [Option<Word>; 3],
    ) -> bool {
        if self.refuses() {
            return false;
        }
        if let Some(dst) = dst {
            self.set_word(dst, args[0].unwrap_or_default());
        }
        true
    }
    fn instruction(&mut self, _: Helper, _: ExitId) -> bool {
        !self.refuses()
    }
    fn entry(&self, destination: Word) -> Option<usize> {
        let pc = destination.as_u64()?;
        self.leaders.iter().position(|&(leader, jumpdest)| jumpdest && u64::from(leader) == pc)
    }
}
