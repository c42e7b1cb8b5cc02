//! Where words lie at the ways out: stores, fixups, and what lies in memory already.
//!
//! **Owns** the last step to an [`ExitTable`]: for each exit, which of its words must be written and
//! how. A word that lies in its slot needs nothing; a constant, and an entry word that still lies in
//! another slot, is a fixup, which costs compiled code nothing; the rest are stores. Memory changes only
//! at [`Op::Run`], which makes it canonical: behind it words lie in their slots.
//!
//! **Callers guarantee** a draft whose blocks are reachable and in order. **Never** changes what a
//! function computes.

use super::{
    function::{Block, Op, Store, Target, Value},
    graph::{Draft, Leave},
};
use kiln_abi::{Exit, ExitId, ExitTable, Fixup, Slot, Source, Word};
use std::collections::HashMap;

/// Passes over the blocks after which nothing is known of memory.
const ROUNDS_MAX: usize = 12;

/// What a slot of the EVM stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// What it held at entry.
    Entry,
    /// A value.
    Value(Value),
    /// Unknown.
    Unknown,
}

/// By slot plus `need`.
type Memory = Vec<Held>;

/// What the exits of a function came to.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) exits: ExitTable,
    pub(super) stores: Vec<Store>,
    pub(super) stores_end: Vec<u32>,
}

impl Placed {
    /// The stores of an exit.
    pub(super) fn stores(&self, exit: ExitId) -> &[Store] {
        let index = exit.0 as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.stores_end[before]);
        &self.stores[start as usize..self.stores_end[index] as usize]
    }
}

/// Places the words of all exits that are used, and numbers those anew, in the order of their use.
pub(super) fn place(draft: &mut Draft, need: i16, grow: i16) -> Placed {
    let placer = Placer::new(draft, need, grow);
    let entries = placer.fixed_point();
    let mut placed = Placed::default();
    placed.exits.pool.push(Word::ZERO);
    let mut emitter = Emitter { placed, pool: HashMap::from([(Word::ZERO, 0)]) };
    emitter.exit(&placer, super::build::ENTRY_EXIT, &placer.at_entry());
    let mut numbered = Vec::with_capacity(draft.blocks.len());
    for (block, mut memory) in draft.blocks.iter().zip(entries) {
        let mut block = block.clone();
        block.gas_exit = block.gas_exit.map(|exit| emitter.exit(&placer, exit, &memory));
        for inst in &mut block.insts {
            inst.exit = inst.exit.map(|exit| {
                let number = emitter.exit(&placer, exit, &memory);
                if matches!(inst.op, Op::Run(_)) {
                    placer.run(exit, &mut memory);
                }
                number
            });
            placer.read(inst.op, inst.dst, &mut memory);
        }
        block.terminator.targets_mut(|target| {
            if let Target::Exit(exit) | Target::Back { exit, .. } = target {
                *exit = emitter.exit(&placer, *exit, &memory);
            }
        });
        numbered.push(block);
    }
    draft.blocks = numbered;
    emitter.placed
}

struct Placer<'a> {
    blocks: &'a [Block],
    leaves: &'a [Leave],
    words: Vec<Option<Word>>,
    /// By value: the slot it was read from at entry.
    entry_of: Vec<Option<i16>>,
    /// By value: the position it is the parameter of.
    positions: &'a HashMap<Value, i16>,
    need: i16,
    grow: i16,
}

impl<'a> Placer<'a> {
    fn new(draft: &'a Draft, need: i16, grow: i16) -> Self {
        let values = draft.graph.len();
        let mut entry_of = vec![None; values];
        for inst in &draft.blocks[0].insts {
            if let (Op::Slot(slot), Some(dst)) = (inst.op, inst.dst) {
                entry_of[dst.0 as usize] = Some(slot.0);
            }
        }
        let words = (0..values as u32).map(|value| draft.graph.word(Value(value))).collect();
        Self {
            blocks: &draft.blocks,
            leaves: &draft.leaves,
            words,
            entry_of,
            positions: &draft.positions,
            need,
            grow,
        }
    }

    fn at_entry(&self) -> Memory {
        let held = |slot| if slot < 0 { Held::Entry } else { Held::Unknown };
        (-self.need..self.grow).map(held).collect()
    }

    fn index(&self, slot: i16) -> usize {
        (slot + self.need) as usize
    }

    /// Whether a value lies in a slot.
    fn lies(&self, memory: &Memory, slot: i16, value: Value) -> bool {
        match memory[self.index(slot)] {
            Held::Entry => self.entry_of[value.0 as usize] == Some(slot),
            Held::Value(held) => held == value,
            Held::Unknown => false,
        }
    }

    /// What an instruction run by the host leaves.
    fn run(&self, exit: ExitId, memory: &mut Memory) {
        let leave = &self.leaves[exit.0 as usize];
        for &(slot, value) in &leave.words {
            memory[self.index(slot)] = match self.entry_of[value.0 as usize] {
                Some(from) if from == slot => Held::Entry,
                _ => Held::Value(value),
            };
        }
        // The operands are gone, a result lies in the place of the lowest.
        memory[self.index(leave.height - leave.inputs)..].fill(Held::Unknown);
    }

    fn read(&self, op: Op, dst: Option<Value>, memory: &mut Memory) {
        if let (Op::Slot(slot), Some(dst)) = (op, dst)
            && self.entry_of[dst.0 as usize].is_none()
        {
            memory[self.index(slot.0)] = Held::Value(dst);
        }
    }

    fn behind(&self, block: &Block, memory: &mut Memory) {
        for inst in &block.insts {
            if let (Op::Run(_), Some(exit)) = (inst.op, inst.exit) {
                self.run(exit, memory);
            }
            self.read(inst.op, inst.dst, memory);
        }
    }

    /// Memory at the beginning of each block.
    fn fixed_point(&self) -> Vec<Memory> {
        let mut entries: Vec<Option<Memory>> = vec![None; self.blocks.len()];
        entries[0] = Some(self.at_entry());
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for (index, block) in self.blocks.iter().enumerate() {
                let Some(mut memory) = entries[index].clone() else { continue };
                self.behind(block, &mut memory);
                for (to, args) in block.terminator.targets().filter_map(Target::block) {
                    let edge = self.along(&memory, &self.blocks[to.0 as usize], args);
                    changed |= meet(&mut entries[to.0 as usize], edge);
                }
            }
            if !changed {
                return entries.into_iter().map(Option::unwrap_or_default).collect();
            }
        }
        vec![vec![Held::Unknown; (self.need + self.grow) as usize]; self.blocks.len()]
    }

    /// Memory behind an edge: a slot that holds the argument for its position's parameter holds the
    /// parameter.
    fn along(&self, memory: &Memory, to: &Block, args: &[Value]) -> Memory {
        let mut behind = memory.clone();
        for (&param, &arg) in to.params.iter().zip(args) {
            let Some(&position) = self.positions.get(&param) else { continue };
            behind[self.index(position)] = match self.lies(memory, position, arg) {
                true => Held::Value(param),
                false => Held::Unknown,
            };
        }
        behind
    }
}

/// Keeps of `known` what an edge brings too; whether that is less than before. A word only ever becomes
/// unknown, so the rounds end.
fn meet(known: &mut Option<Memory>, edge: Memory) -> bool {
    let Some(known) = known else {
        *known = Some(edge);
        return true;
    };
    let mut changed = false;
    for (known, edge) in known.iter_mut().zip(edge) {
        if *known != edge && *known != Held::Unknown {
            *known = Held::Unknown;
            changed = true;
        }
    }
    changed
}

struct Emitter {
    placed: Placed,
    pool: HashMap<Word, u32>,
}

impl Emitter {
    /// Writes an exit down; its new number.
    fn exit(&mut self, placer: &Placer<'_>, exit: ExitId, memory: &Memory) -> ExitId {
        let leave = &placer.leaves[exit.0 as usize];
        let missing: Vec<(i16, Value)> = leave
            .words
            .iter()
            .copied()
            .filter(|&(slot, value)| !placer.lies(memory, slot, value))
            .collect();
        let moves = self.moves(placer, memory, &missing);
        let table = &mut self.placed.exits;
        let (id, start) = (ExitId(table.exits.len() as u32), table.fixups.len());
        for (&(slot, value), from) in missing.iter().zip(moves) {
            let slot = Slot(slot);
            let source = match (placer.words[value.0 as usize], from) {
                (Some(word), _) => Source::Const(constant(&mut self.pool, table, word)),
                (None, Some(from)) => Source::Slot(Slot(from)),
                (None, None) => {
                    self.placed.stores.push(Store { slot, value });
                    continue;
                }
            };
            table.fixups.push(Fixup { slot, source });
        }
        let &Leave { pc, kind, height, gas_back, rest, .. } = leave;
        table.exits.push(Exit {
            pc,
            kind,
            moved: 0,
            height,
            gas_back,
            rest,
            fixups_start: start as u32,
            fixups_len: (table.fixups.len() - start) as u16,
        });
        self.placed.stores_end.push(self.placed.stores.len() as u32);
        id
    }

    /// For each missing word the slot the host can move it from, if it is an entry word that still lies
    /// there and no store writes over it.
    fn moves(
        &self,
        placer: &Placer<'_>,
        memory: &Memory,
        missing: &[(i16, Value)],
    ) -> Vec<Option<i16>> {
        let from = |value: Value| {
            let slot = placer.entry_of[value.0 as usize]?;
            placer.lies(memory, slot, value).then_some(slot)
        };
        let mut moves: Vec<_> = missing.iter().map(|&(_, value)| from(value)).collect();
        let mut by_source: Vec<(i16, usize)> =
            moves.iter().zip(0..).filter_map(|(from, index)| Some(((*from)?, index))).collect();
        by_source.sort_unstable();
        let is_store = |value: Value, from: Option<i16>| {
            placer.words[value.0 as usize].is_none() && from.is_none()
        };
        let mut stored: Vec<i16> = missing
            .iter()
            .zip(&moves)
            .filter(|((_, value), from)| is_store(*value, **from))
            .map(|((slot, _), _)| *slot)
            .collect();
        // A store may overwrite the source of a move, which becomes a store, and so on.
        while let Some(slot) = stored.pop() {
            let first = by_source.partition_point(|&(source, _)| source < slot);
            let reads = by_source[first..].iter().take_while(|&&(source, _)| source == slot);
            for &(_, index) in reads {
                if moves[index].take().is_some() {
                    stored.push(missing[index].0);
                }
            }
        }
        moves
    }
}

fn constant(pool: &mut HashMap<Word, u32>, table: &mut ExitTable, word: Word) -> u32 {
    *pool.entry(word).or_insert_with(|| {
        table.pool.push(word);
        (table.pool.len() - 1) as u32
    })
}
