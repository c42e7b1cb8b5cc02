//! Where words that ways out write are written.
//!
//! **Owns** the choice between the way out and the code in front of it. A word that many exits write is
//! written once, in front of the first of them: each store on a way out takes as long to compile as any other
//! instruction, and there are more exits than anything else. That is sound for slots that hold nothing of
//! their own: those above the stack at entry that are written by each exit in which they lie on the stack, and
//! are never read from memory. **Callers guarantee** verified functions, whose blocks are in reverse
//! post-order. **Never** moves a store behind an exit that needs it.

use super::function::{Block, Function, Inst, Op, Store, Target, Value};
use kiln_abi::{ExitId, ExitKind, Source};
use std::collections::HashMap;

/// A word that at least so many exits write is written in front of them.
const EARLY_MIN: u32 = 3;
/// The same in loops, where it is written again and again.
const EARLY_IN_LOOP_MIN: u32 = 8;
/// More words than any instruction takes from the stack.
const TAKEN_MAX: usize = 8;

/// Who performs which stores.
#[derive(Debug, Default)]
pub struct Plan {
    /// By exit, what is written in front of the instruction that may leave.
    pub early: Vec<Vec<Store>>,
    /// By exit, what is left to be written on the way out, by slot.
    pub late: Vec<Vec<Store>>,
}

/// By slot from 0 on, the value that memory is known to hold.
type Held = Vec<Option<Value>>;

struct Planner<'a> {
    function: &'a Function,
    plan: Plan,
    /// By slot from 0 on, whether it holds nothing of its own.
    free: Vec<bool>,
    /// How many exits write a value to a slot.
    writers: HashMap<(i16, Value), u32>,
    held: Held,
    early_min: u32,
}

impl Plan {
    /// Plans for a function. Exits out of range are nobody's.
    pub fn new(function: &Function) -> Self {
        let exits = function.exits.exits.len();
        let mut writers = HashMap::new();
        for exit in 0..exits {
            for store in function.stores(ExitId(exit as u32)) {
                *writers.entry((store.slot.0, store.value)).or_insert(0) += 1;
            }
        }
        let mut planner = Planner {
            function,
            plan: Self { early: vec![Vec::new(); exits], late: vec![Vec::new(); exits] },
            free: free_slots(function),
            writers,
            held: Held::new(),
            early_min: EARLY_MIN,
        };
        planner.blocks();
        planner.plan
    }
}

impl Planner<'_> {
    fn blocks(&mut self) {
        let function = self.function;
        let loops = loops(function);
        // By block, what memory holds on all edges to it that were met.
        let mut at_start: Vec<Option<Held>> = vec![None; function.blocks.len()];
        for (index, block) in function.blocks.iter().enumerate() {
            let nothing = || vec![None; self.free.len()];
            // Back-edges to it are still to come.
            self.held = match at_start[index].take() {
                Some(held) if !loops.heads[index] => held,
                _ => nothing(),
            };
            self.early_min = if loops.inside[index] { EARLY_IN_LOOP_MIN } else { EARLY_MIN };
            self.block(block);
            for target in block.terminator.targets() {
                if let Target::Block { block, .. } = target
                    && let Some(start) = at_start.get_mut(block.0 as usize)
                {
                    meet(start, &self.held);
                }
            }
        }
    }

    fn block(&mut self, block: &Block) {
        block.gas_exit.into_iter().for_each(|exit| self.exit(exit, true));
        for inst in &block.insts {
            match inst {
                Inst { op: Op::Run(_), exit: Some(exit), .. } => self.run(*exit),
                inst => inst.exit.into_iter().for_each(|exit| self.exit(exit, true)),
            }
        }
        let exits = block.terminator.targets().filter_map(|target| target.exit());
        exits.for_each(|exit| self.exit(exit, false));
    }

    /// The slot's place in [`Self::held`], if it holds nothing of its own.
    fn place(&self, store: &Store) -> Option<usize> {
        let place = usize::try_from(store.slot.0).ok()?;
        self.free.get(place).copied().unwrap_or(false).then_some(place)
    }

    fn exit(&mut self, ExitId(exit): ExitId, goes_on: bool) {
        if exit as usize >= self.plan.late.len() {
            return;
        }
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for store in self.function.stores(ExitId(exit)) {
            match self.place(store) {
                Some(place) if self.held[place] == Some(store.value) => {}
                Some(place)
                    if goes_on && self.writers[&(store.slot.0, store.value)] >= self.early_min =>
                {
                    self.held[place] = Some(store.value);
                    early.push(*store);
                }
                _ => late.push(*store),
            }
        }
        late.sort_unstable_by_key(|store| store.slot);
        self.plan.early[exit as usize] = early;
        self.plan.late[exit as usize] = late;
    }

    /// An instruction of the host: everything is written in front of it.
    fn run(&mut self, exit: ExitId) {
        let Some(record) = self.function.exits.exits.get(exit.0 as usize) else { return };
        self.exit(exit, false);
        for store in &self.plan.late[exit.0 as usize] {
            if let Some(place) = self.place(store) {
                self.held[place] = Some(store.value);
            }
        }
        for fixup in self.function.exits.fixups(record) {
            if let Ok(place) = usize::try_from(fixup.slot.0)
                && let Some(held) = self.held.get_mut(place)
            {
                *held = None;
            }
        }
        // It takes words from the top, and may leave one there.
        let below = usize::try_from(record.height).unwrap_or(0).saturating_sub(TAKEN_MAX);
        self.held.iter_mut().skip(below).for_each(|held| *held = None);
    }
}

/// What is held on this path and on those before.
fn meet(start: &mut Option<Held>, held: &Held) {
    match start {
        None => *start = Some(held.clone()),
        Some(start) => {
            for (start, held) in start.iter_mut().zip(held) {
                if start != held {
                    *start = None;
                }
            }
        }
    }
}

/// The slots from 0 on that hold nothing of their own.
fn free_slots(function: &Function) -> Vec<bool> {
    let mut free = vec![true; function.grow.into()];
    let mut taken = |slot: i16| {
        if let Ok(place) = usize::try_from(slot)
            && let Some(free) = free.get_mut(place)
        {
            *free = false;
        }
    };
    for inst in function.blocks.iter().flat_map(|block| &block.insts) {
        if let Op::Slot(slot) = inst.op {
            taken(slot.0);
        }
    }
    for fixup in &function.exits.fixups {
        if let Source::Slot(slot) = fixup.source {
            taken(slot.0);
        }
    }
    let mut written = vec![false; function.grow.into()];
    for (index, exit) in function.exits.exits.iter().enumerate() {
        written.fill(false);
        let stored = function.stores(ExitId(index as u32)).iter().map(|store| store.slot);
        let fixed = function.exits.fixups(exit).iter().map(|fixup| fixup.slot);
        for slot in stored.chain(fixed) {
            if let Ok(place) = usize::try_from(slot.0)
                && let Some(written) = written.get_mut(place)
            {
                *written = true;
            }
        }
        let height = usize::try_from(exit.height).unwrap_or(0);
        // What is never read again may hold anything.
        let from = match exit.kind {
            ExitKind::Interpret | ExitKind::Resume => 0,
            ExitKind::Stop => height,
            ExitKind::Return | ExitKind::Revert => height.saturating_sub(2),
        };
        for place in from..height.min(free.len()) {
            free[place] &= written[place];
        }
    }
    free
}

struct Loops {
    /// Whether a back-edge goes to the block.
    heads: Vec<bool>,
    /// Whether the block lies between the two ends of a back-edge.
    inside: Vec<bool>,
}

fn loops(function: &Function) -> Loops {
    let blocks = function.blocks.len();
    let mut loops = Loops { heads: vec![false; blocks], inside: vec![false; blocks] };
    for (index, block) in function.blocks.iter().enumerate() {
        for target in block.terminator.targets() {
            if let Target::Back { block: head, .. } = target
                && let Some(inside) = loops.inside.get_mut(head.0 as usize..=index)
            {
                loops.heads[head.0 as usize] = true;
                inside.fill(true);
            }
        }
    }
    loops
}
