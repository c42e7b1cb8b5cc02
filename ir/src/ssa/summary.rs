//! What each basic block does to the constants that may be jump destinations.
//!
//! **Owns** the [`Summary`] of a block: for each word it leaves on the stack whether that is a
//! destination the block pushed, a word that was on the stack before, or something else. Jump
//! resolution and the choice of regions work on these alone and never decode again.
//!
//! **Callers guarantee** that the blocks are those of the code.
//!
//! **Never** knows other constants, or arithmetic but the masks of function pointers.

use crate::{
    code::{Block, Blocks, Decoded, Ending, Instructions, decode_dup_swap, decode_exchange},
    config::{Bounds, BuildError},
    opcode::{LOWERING, Lowering},
};
use kiln_abi::{Pc, STACK_LIMIT};
use revm_bytecode::opcode::{self as op, OPCODE_INFO};

/// What a word on the stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abs {
    /// A constant that is a valid jump destination.
    Dest(Pc),
    /// What lay at this position when the block began, counted from the top: -1 is the top word.
    In(i16),
    /// The same, if that is a jump destination: a function pointer that was masked.
    Masked(i16),
    /// A constant of low bits that masks no jump destination.
    Mask,
    /// Anything.
    Any,
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// At the block behind it.
    Next,
    /// By JUMP.
    Jump(Abs),
    /// By JUMPI; else at the block behind it.
    Branch(Abs),
    /// With an instruction of the interpreter; the frame goes on behind it.
    Suspend,
    /// It is the last of the frame.
    Leaves,
}

/// A block's effect. Positions are counted from the stack top where the block begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Words below the top that it touches.
    pub(super) need: i16,
    /// Words above the top that it writes.
    pub(super) grow: i16,
    /// Change of the stack height.
    pub(super) height: i16,
    /// How it ends.
    pub(super) flow: Flow,
    /// One past its last entry in [`Summaries::words`].
    words_end: u32,
    /// One past its last entry in [`Summaries::written`].
    written_end: u32,
}

/// The summaries of all blocks of a program, in the order of the blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Summaries {
    summaries: Vec<Summary>,
    words: Vec<(i16, Abs)>,
    written: Vec<i16>,
}

impl Summaries {
    pub(super) fn new(
        code: &[u8],
        blocks: &Blocks,
        bounds: Bounds<'_>,
    ) -> Result<Self, BuildError> {
        let mut all = Self::default();
        let mut stack = Stack::default();
        for block in &blocks.blocks {
            bounds.check()?;
            stack.reset();
            let flow = stack.block(code, block, blocks);
            let (mut need, height) = (stack.below.len() as i16, stack.height);
            let flow = flow.unwrap_or_else(|| {
                // No stack satisfies it: whoever comes here leaves.
                need = i16::MAX;
                Flow::Leaves
            });
            if need != i16::MAX {
                let words = (-need..height).map(|position| (position, stack.at(position)));
                all.words.extend(words.filter(|&(position, word)| word != Abs::In(position)));
                let written = stack.written.iter().zip(1..).filter(|(written, _)| **written);
                all.written.extend(written.map(|(_, below): (_, i16)| -below));
            }
            let (words_end, written_end) = (all.words.len() as u32, all.written.len() as u32);
            let grow = stack.grow;
            all.summaries.push(Summary { need, grow, height, flow, words_end, written_end });
        }
        Ok(all)
    }

    pub(super) fn len(&self) -> usize {
        self.summaries.len()
    }

    pub(super) fn get(&self, block: usize) -> &Summary {
        &self.summaries[block]
    }

    /// By ascending position, the words that a block leaves, but for those that are where they were.
    pub(super) fn words(&self, block: usize) -> &[(i16, Abs)] {
        let start = block.checked_sub(1).map_or(0, |before| self.summaries[before].words_end);
        &self.words[start as usize..self.summaries[block].words_end as usize]
    }

    /// The positions that a block writes, be it for a while, with another word than lies there when it
    /// begins.
    pub(super) fn written(&self, block: usize) -> impl Iterator<Item = i16> + '_ {
        let start = block.checked_sub(1).map_or(0, |before| self.summaries[before].written_end);
        let end = self.summaries[block].written_end;
        let from_zero = 0..self.summaries[block].grow;
        self.written[start as usize..end as usize].iter().copied().chain(from_zero)
    }
}

impl Summary {
    /// Whether no stack satisfies the block.
    pub(super) fn never_runs(&self) -> bool {
        self.need == i16::MAX
    }
}

/// The words that a block has touched.
#[derive(Default)]
struct Stack {
    /// From position 0 up.
    above: Vec<Abs>,
    /// From position -1 down.
    below: Vec<Abs>,
    /// From position -1 down: whether another word was written there than lay there.
    written: Vec<bool>,
    height: i16,
    grow: i16,
}

/// The block can not run on any stack.
struct OutOfStack;

impl Stack {
    fn reset(&mut self) {
        self.above.clear();
        self.below.clear();
        self.written.clear();
        (self.height, self.grow) = (0, 0);
    }

    fn at(&self, position: i16) -> Abs {
        match usize::try_from(position) {
            Ok(index) => self.above[index],
            Err(_) => self.below[(-1 - position) as usize],
        }
    }

    fn put(&mut self, position: i16, word: Abs) {
        match usize::try_from(position) {
            Ok(index) => self.above[index] = word,
            Err(_) => {
                let index = (-1 - position) as usize;
                self.below[index] = word;
                self.written[index] |= word != Abs::In(position);
            }
        }
    }

    /// The position `depth` words below the top; 0 is the top.
    fn position(&mut self, depth: u16) -> Result<i16, OutOfStack> {
        let position = self.height - 1 - depth as i16;
        if position < -(STACK_LIMIT as i16) {
            return Err(OutOfStack);
        }
        while (self.below.len() as i16) < -position {
            self.below.push(Abs::In(-1 - self.below.len() as i16));
            self.written.push(false);
        }
        Ok(position)
    }

    fn push(&mut self, word: Abs) -> Result<(), OutOfStack> {
        if self.height >= STACK_LIMIT as i16 {
            return Err(OutOfStack);
        }
        let position = self.height;
        if usize::try_from(position).is_ok_and(|index| index == self.above.len()) {
            self.above.push(word);
        } else {
            self.put(position, word);
        }
        self.height += 1;
        self.grow = self.grow.max(self.height);
        Ok(())
    }

    fn pop(&mut self) -> Result<Abs, OutOfStack> {
        let position = self.position(0)?;
        self.height = position;
        Ok(self.at(position))
    }

    fn exchange(&mut self, n: u16, m: u16) -> Result<(), OutOfStack> {
        let (a, b) = (self.position(n)?, self.position(m)?);
        let (x, y) = (self.at(a), self.at(b));
        self.put(a, y);
        self.put(b, x);
        Ok(())
    }

    fn dup(&mut self, depth: u16) -> Result<(), OutOfStack> {
        let position = self.position(depth - 1)?;
        self.push(self.at(position))
    }

    /// The flow, or none if no stack satisfies the block.
    fn block(&mut self, code: &[u8], block: &Block, blocks: &Blocks) -> Option<Flow> {
        let count = block.instructions as usize;
        let mut instructions = Instructions::new(code, block.start).take(count);
        let has_end = !matches!(block.ending, Ending::Fallthrough | Ending::CodeEnd);
        for inst in instructions.by_ref().take(count - usize::from(has_end)) {
            self.step(inst, blocks).ok()?;
        }
        match instructions.next() {
            Some(last) => self.end(last, block.ending).ok(),
            None if block.ending == Ending::CodeEnd => Some(Flow::Leaves),
            None => Some(Flow::Next),
        }
    }

    fn end(&mut self, last: Decoded<'_>, ending: Ending) -> Result<Flow, OutOfStack> {
        Ok(match ending {
            Ending::Jump => Flow::Jump(self.pop()?),
            Ending::Jumpi => {
                let dest = self.pop()?;
                self.pop()?;
                Flow::Branch(dest)
            }
            Ending::Suspend => {
                self.apply(last.opcode)?;
                Flow::Suspend
            }
            Ending::Return => {
                self.apply(last.opcode)?;
                Flow::Leaves
            }
            Ending::Fallthrough | Ending::End | Ending::CodeEnd => Flow::Leaves,
        })
    }

    fn step(&mut self, inst: Decoded<'_>, blocks: &Blocks) -> Result<(), OutOfStack> {
        let immediate = || inst.immediate.first().copied().unwrap_or_default();
        let depth = || decode_dup_swap(immediate()).ok_or(OutOfStack);
        match LOWERING[inst.opcode as usize] {
            Lowering::Push => self.push(pushed(inst, blocks)),
            Lowering::Dup(depth) => self.dup(u16::from(depth)),
            Lowering::Swap(depth) => self.exchange(0, u16::from(depth)),
            Lowering::Dupn => self.dup(depth()?),
            Lowering::Swapn => self.exchange(0, depth()?),
            Lowering::Exchange => {
                let (n, m) = decode_exchange(immediate()).ok_or(OutOfStack)?;
                self.exchange(n, m)
            }
            _ if inst.opcode == op::AND => {
                let (a, b) = (self.pop()?, self.pop()?);
                self.push(match (a, b) {
                    (Abs::Mask, Abs::In(position)) | (Abs::In(position), Abs::Mask) => {
                        Abs::Masked(position)
                    }
                    (Abs::Mask, kept) | (kept, Abs::Mask) => kept,
                    _ => Abs::Any,
                })
            }
            _ => self.apply(inst.opcode),
        }
    }

    /// An instruction that pushes nothing known.
    fn apply(&mut self, opcode: u8) -> Result<(), OutOfStack> {
        let Some(info) = OPCODE_INFO[opcode as usize] else { return Ok(()) };
        for _ in 0..info.inputs() {
            self.pop()?;
        }
        for _ in 0..info.outputs() {
            self.push(Abs::Any)?;
        }
        Ok(())
    }
}

/// A PUSH's word. A truncated one is no destination.
fn pushed(inst: Decoded<'_>, blocks: &Blocks) -> Abs {
    let len = (inst.opcode - op::PUSH0) as usize;
    if inst.immediate.len() < len || len == 0 {
        return Abs::Any;
    }
    let (high, low) = inst.immediate.split_at(len.saturating_sub(4));
    let pc = low.iter().fold(0, |pc, &byte| pc << 8 | u32::from(byte));
    if len >= 3 && inst.immediate.iter().all(|&byte| byte == 0xff) {
        // Programs are shorter than 2^24 bytes.
        return Abs::Mask;
    }
    let is_dest = high.iter().all(|&byte| byte == 0) && blocks.jump_dests.contains(pc as usize);
    if is_dest { Abs::Dest(Pc(pc)) } else { Abs::Any }
}
