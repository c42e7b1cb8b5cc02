//! Decoding and the block scan.
//!
//! One linear pass finds the valid jump destinations (revm's legacy scan, which knows PUSH data and
//! nothing else) and the basic blocks that can be entered at all. Code behind an instruction that
//! never continues is skipped up to the next JUMPDEST.

use crate::{
    config::{Bounds, BuildError, Config, Limits},
    opcode::{LOWERING, Lowering, activated_in},
};
use kiln_abi::{EntryTable, Pc};
use revm_bytecode::opcode::{self as op, OPCODE_INFO};

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Where it stands.
    pub pc: Pc,
    /// Its opcode byte.
    pub opcode: u8,
    /// Its immediate bytes, as far as the code holds them.
    pub immediate: &'a [u8],
}

impl Decoded<'_> {
    /// The mnemonic, or `UNKNOWN`.
    pub fn name(&self) -> &'static str {
        match OPCODE_INFO[self.opcode as usize] {
            Some(_) => op::OpCode::name_by_op(self.opcode),
            None => "UNKNOWN",
        }
    }
}

/// Decodes instructions one after the other.
#[derive(Clone, Debug)]
pub struct Instructions<'a> {
    code: &'a [u8],
    pc: usize,
}

impl<'a> Instructions<'a> {
    /// From `pc` on to the end of the code.
    pub fn new(code: &'a [u8], pc: Pc) -> Self {
        Self { code, pc: pc.0 as usize }
    }
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Decoded<'a>;

    #[inline]
    fn next(&mut self) -> Option<Decoded<'a>> {
        let pc = self.pc;
        let &opcode = self.code.get(pc)?;
        let len = immediate_len(opcode);
        let end = (pc + 1 + len).min(self.code.len());
        self.pc = pc + 1 + len;
        Some(Decoded { pc: Pc(pc as u32), opcode, immediate: &self.code[pc + 1..end] })
    }
}

/// Bytes of immediate data behind an opcode.
#[inline]
pub(crate) fn immediate_len(opcode: u8) -> usize {
    match opcode {
        op::PUSH1..=op::PUSH32 => (opcode - op::PUSH0) as usize,
        op::DUPN | op::SWAPN | op::EXCHANGE => 1,
        _ => 0,
    }
}

/// The depth a DUPN or SWAPN immediate stands for, or none for an invalid one (EIP-8024).
///
/// The bytes that are JUMPDEST or PUSH opcodes are invalid, so the jump destination scan, which does
/// not know these immediates, never disagrees with the decoder about valid code.
pub const fn decode_dup_swap(immediate: u8) -> Option<u16> {
    match immediate {
        0..=90 => Some(immediate as u16 + 145),
        128.. => Some(immediate as u16 - 111),
        _ => None,
    }
}

/// The two depths an EXCHANGE immediate stands for, or none for an invalid one (EIP-8024).
pub const fn decode_exchange(immediate: u8) -> Option<(u16, u16)> {
    if immediate > 81 && immediate < 128 {
        return None;
    }
    let k = (immediate ^ 143) as u16;
    let (q, r) = (k / 16, k % 16);
    Some(if q < r { (q + 1, r + 1) } else { (r + 1, 29 - q) })
}

/// The valid jump destinations of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JumpDests(Vec<u64>);

impl JumpDests {
    /// From revm's jump table of the same code: one bit a byte of code, least significant first.
    pub fn from_bits(bits: &[u8]) -> Self {
        let (whole, rest) = bits.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let mut words = Vec::with_capacity(whole.len() + 1);
        words.extend(whole.iter().map(|&bytes| u64::from_le_bytes(bytes)));
        if !rest.is_empty() {
            words.push(u64::from_le_bytes(last));
        }
        Self(words)
    }

    /// Of a program: revm's legacy scan.
    pub fn of(code: &[u8]) -> Self {
        let mut found = Self(vec![0; code.len() / 64 + 1]);
        let mut pc = 0;
        while let Some(&opcode) = code.get(pc) {
            pc += match opcode {
                op::JUMPDEST => {
                    found.insert(pc);
                    1
                }
                op::PUSH1..=op::PUSH32 => 1 + immediate_len(opcode),
                _ => 1,
            };
        }
        found
    }

    /// Whether a jump to `pc` is valid.
    #[inline]
    pub fn contains(&self, pc: usize) -> bool {
        self.0.get(pc >> 6).is_some_and(|word| word >> (pc & 63) & 1 != 0)
    }

    fn insert(&mut self, pc: usize) {
        self.0[pc >> 6] |= 1 << (pc & 63);
    }
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It runs into the next leader.
    Fallthrough,
    /// JUMP.
    Jump,
    /// JUMPI.
    Jumpi,
    /// STOP, RETURN or REVERT.
    Return,
    /// The last instruction is the interpreter's; a leader stands behind it.
    Suspend,
    /// The last instruction is the interpreter's; nothing stands behind it.
    End,
    /// The code ends.
    CodeEnd,
}

/// A basic block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The leader.
    pub start: Pc,
    /// One past the last byte; past the end of the code for a truncated PUSH.
    pub end: Pc,
    /// Instructions, the last included.
    pub instructions: u32,
    /// How it ends.
    pub ending: Ending,
    /// Whether the leader is a JUMPDEST.
    pub is_jumpdest: bool,
}

/// The basic blocks of a program that can be entered, by ascending pc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The valid jump destinations.
    pub jump_dests: JumpDests,
}

impl Blocks {
    /// Scans a program.
    ///
    /// # Errors
    /// If the code is longer than [`Limits::code_bytes_max`], or the work was called off.
    pub fn scan<'b>(
        code: &[u8],
        config: &Config,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<Self, BuildError> {
        let bounds = bounds.into();
        let limits = bounds.limits;
        let instructions_max = limits.block_instructions();
        check_len(code, limits)?;
        let mut scan = Self {
            blocks: Vec::with_capacity(code.len() / 16 + 1),
            jump_dests: JumpDests(vec![0; code.len() / 64 + 1]),
        };
        let mut pc = 0;
        let mut open: Option<Block> = None;
        let start_at = |pc: usize, is_jumpdest| Block {
            start: Pc(pc as u32),
            end: Pc(pc as u32),
            instructions: 0,
            ending: Ending::Fallthrough,
            is_jumpdest,
        };
        while pc < code.len() {
            let opcode = code[pc];
            if opcode == op::JUMPDEST {
                bounds.check()?;
                scan.jump_dests.insert(pc);
                // Empty where a leader behind JUMPI or CALL is a JUMPDEST itself.
                scan.blocks.extend(open.take().filter(|block| block.instructions != 0));
                open = Some(start_at(pc, true));
            } else if pc == 0 {
                open = Some(start_at(0, false));
            }
            let next = pc + 1 + scan_len(code, pc, config);
            if let Some(block) = &mut open {
                block.end = Pc(next as u32);
                block.instructions += 1;
                let ending = ending(code, pc, config);
                if let Some(ending) = ending {
                    bounds.check()?;
                    block.ending = ending;
                    let follows = matches!(ending, Ending::Jumpi | Ending::Suspend);
                    scan.blocks.extend(open.take());
                    open = (follows && next < code.len()).then(|| start_at(next, false));
                } else if block.instructions as usize >= instructions_max {
                    bounds.check()?;
                    scan.blocks.extend(open.take());
                    open = (next < code.len()).then(|| start_at(next, false));
                }
            }
            pc = next;
        }
        if let Some(block) = &mut open {
            block.ending = Ending::CodeEnd;
            // A JUMPDEST right behind was a leader of its own; here the code is over.
        } else if let Some(last) = scan.blocks.last_mut()
            && last.ending == Ending::Fallthrough
            && last.end.0 as usize >= code.len()
        {
            last.ending = Ending::CodeEnd;
        }
        scan.blocks.extend(open.take());
        Ok(scan)
    }

    /// Decodes only the blocks at `leaders`, which ascend; the work is proportional to those blocks,
    /// not to the code. A leader that is none (of another fork, say) makes a block like any other:
    /// compiled code is entered there only if the interpreter stands there.
    ///
    /// # Errors
    /// If the code is longer than [`Limits::code_bytes_max`], or the work was called off.
    pub fn at_leaders<'b>(
        code: &[u8],
        jump_dests: JumpDests,
        leaders: impl Iterator<Item = Pc>,
        config: &Config,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<Self, BuildError> {
        let bounds = bounds.into();
        check_len(code, bounds.limits)?;
        let mut blocks = Vec::with_capacity(leaders.size_hint().0);
        for leader in leaders.filter(|leader| (leader.0 as usize) < code.len()) {
            bounds.check()?;
            blocks.push(decode_block(code, leader, config, bounds.limits));
        }
        Ok(Self { blocks, jump_dests })
    }

    /// The block that starts at `pc`.
    pub fn at(&self, pc: Pc) -> Option<&Block> {
        let index = self.blocks.binary_search_by_key(&pc, |block| block.start).ok()?;
        Some(&self.blocks[index])
    }
}

fn check_len(code: &[u8], limits: &Limits) -> Result<(), BuildError> {
    let (is, max) = (code.len(), limits.code_bytes_max.min(EntryTable::CODE_LEN_MAX));
    if is > max { Err(BuildError::Limit { what: "code bytes", is, max }) } else { Ok(()) }
}

/// Decodes one block: up to its ending, the next JUMPDEST, or the limit.
fn decode_block(code: &[u8], leader: Pc, config: &Config, limits: &Limits) -> Block {
    let mut pc = leader.0 as usize;
    let instructions_max = limits.block_instructions();
    let is_jumpdest = code[pc] == op::JUMPDEST;
    let (mut instructions, mut found) = (0, None);
    while found.is_none() && pc < code.len() && (instructions as usize) < instructions_max {
        if instructions != 0 && code[pc] == op::JUMPDEST {
            break;
        }
        found = ending(code, pc, config);
        pc += 1 + scan_len(code, pc, config);
        instructions += 1;
    }
    let at_end = if pc >= code.len() { Ending::CodeEnd } else { Ending::Fallthrough };
    let ending = found.unwrap_or(at_end);
    Block { start: leader, end: Pc(pc as u32), instructions, ending, is_jumpdest }
}

/// Immediate bytes to skip. The legacy scan does not know the immediates of DUPN, SWAPN and
/// EXCHANGE; the decoder skips them only where the instruction will succeed in reading them.
fn scan_len(code: &[u8], pc: usize, config: &Config) -> usize {
    let opcode = code[pc];
    match opcode {
        op::DUPN | op::SWAPN | op::EXCHANGE => usize::from(ending(code, pc, config).is_none()),
        _ => immediate_len(opcode),
    }
}

/// How the instruction at `pc` ends its block, if it does.
pub(crate) fn ending(code: &[u8], pc: usize, config: &Config) -> Option<Ending> {
    let opcode = code[pc];
    if config.replaced.contains(opcode) {
        return Some(Ending::Suspend);
    }
    if !config.spec.is_enabled_in(activated_in(opcode)) {
        return Some(Ending::End);
    }
    let immediate = || code.get(pc + 1).copied();
    match LOWERING[opcode as usize] {
        Lowering::Jump => Some(Ending::Jump),
        Lowering::Jumpi => Some(Ending::Jumpi),
        Lowering::Stop | Lowering::Return | Lowering::Revert => Some(Ending::Return),
        Lowering::Suspend => Some(Ending::Suspend),
        Lowering::End | Lowering::Unknown => Some(Ending::End),
        // A missing immediate reads as 0, which lies behind the code: the interpreter's business.
        Lowering::Dupn | Lowering::Swapn => {
            immediate().and_then(decode_dup_swap).is_none().then_some(Ending::End)
        }
        Lowering::Exchange => {
            immediate().and_then(decode_exchange).is_none().then_some(Ending::End)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OpcodeSet;
    use revm_primitives::hardfork::SpecId;

    fn scan(code: &[u8], spec: SpecId) -> Vec<(u32, u32, Ending)> {
        let config = Config { spec, gas: [1; 256], replaced: OpcodeSet::EMPTY };
        let blocks = Blocks::scan(code, &config, &Limits::default()).unwrap();
        blocks.blocks.iter().map(|b| (b.start.0, b.instructions, b.ending)).collect()
    }

    #[test]
    fn push_data_holds_no_jumpdest() {
        // PUSH1 5b; JUMPDEST; STOP
        assert_eq!(
            scan(&[0x60, 0x5b, 0x5b, 0x00], SpecId::CANCUN),
            [(0, 1, Ending::Fallthrough), (2, 2, Ending::Return)]
        );
    }

    #[test]
    fn dead_code_is_skipped_up_to_a_jumpdest() {
        assert_eq!(
            scan(&[0x00, 0x01, 0x60, 0x5b, 0x5b, 0x01], SpecId::CANCUN),
            [(0, 1, Ending::Return), (4, 2, Ending::CodeEnd)]
        );
    }

    #[test]
    fn calls_and_jumpi_start_a_block_behind_them() {
        assert_eq!(
            scan(&[0xf1, 0x50, 0x57, 0x50], SpecId::CANCUN),
            [(0, 1, Ending::Suspend), (1, 2, Ending::Jumpi), (3, 1, Ending::CodeEnd)]
        );
    }

    #[test]
    fn an_invalid_dupn_immediate_ends_the_block_and_may_be_a_jumpdest() {
        // DUPN 5b: invalid, and its immediate is a JUMPDEST.
        assert_eq!(
            scan(&[0xe6, 0x5b, 0x00], SpecId::AMSTERDAM),
            [(0, 1, Ending::End), (1, 2, Ending::Return)]
        );
        // DUPN 80: valid.
        assert_eq!(scan(&[0xe6, 0x80, 0x00], SpecId::AMSTERDAM), [(0, 2, Ending::Return)]);
        // Not activated.
        assert_eq!(scan(&[0xe6, 0x80, 0x00], SpecId::OSAKA), [(0, 1, Ending::End)]);
    }

    #[test]
    fn single_blocks_decode_as_in_the_whole_scan() {
        let mut rng = fastrand::Rng::with_seed(3);
        let config = Config { spec: SpecId::AMSTERDAM, gas: [1; 256], replaced: OpcodeSet::EMPTY };
        let limits = Limits { block_instructions_max: 40, ..Limits::default() };
        for _ in 0..2000 {
            let palette = [0x5b, 0x60, 0x7f, 0x01, 0x50, 0x57, 0xf1, 0xe6, 0x80, 0x00];
            let code: Vec<u8> =
                (0..rng.usize(1..200)).map(|_| *rng.choice(&palette).unwrap()).collect();
            let whole = Blocks::scan(&code, &config, &limits).unwrap();
            let leaders = whole.blocks.iter().map(|block| block.start);
            let bits: Vec<u8> = whole.jump_dests.0.iter().flat_map(|w| w.to_le_bytes()).collect();
            let dests = JumpDests::from_bits(&bits);
            let parts = Blocks::at_leaders(&code, dests, leaders, &config, &limits).unwrap();
            assert_eq!(parts, whole, "{code:02x?}");
        }
    }

    #[test]
    fn empty_code_has_no_block() {
        assert!(scan(&[], SpecId::CANCUN).is_empty());
    }

    #[test]
    fn immediates_decode_as_in_revm() {
        assert_eq!(decode_dup_swap(0), Some(145));
        assert_eq!(decode_dup_swap(90), Some(235));
        assert_eq!(decode_dup_swap(91), None);
        assert_eq!(decode_dup_swap(128), Some(17));
        assert_eq!(decode_dup_swap(255), Some(144));
        assert_eq!(decode_exchange(0x8e), Some((1, 2)));
        assert_eq!(decode_exchange(82), None);
    }
}
