//! The symbolic stack of one block.
//!
//! A *position* is a place on the EVM stack, a *slot* the memory of one; both are counted from the
//! stack top at block entry. Each position holds a [`Value`]: a constant, or the content of a slot.
//! A position is *home* when its own slot holds its value; the others are *dirty* and kept in a list.

use kiln_abi::{STACK_LIMIT, Slot};

/// What a position holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The content of a slot.
    Slot(i16),
    /// A constant. `home`: the position's own slot holds it too.
    Const {
        /// Index into the pool.
        id: u32,
        /// Whether it is stored.
        home: bool,
    },
}

/// The block moves more words than an EVM stack holds: its precondition can never hold.
#[derive(Debug)]
pub(super) struct OutOfStack;

/// Positions from `-LIMIT` to `LIMIT` exclusive.
const LIMIT: i16 = STACK_LIMIT as i16;

#[derive(Debug)]
pub(super) struct SymbolicStack {
    /// By `position + LIMIT`; defined in `lo..hi`.
    values: Box<[Value]>,
    /// By `slot + LIMIT`: how many positions (and pins) hold `Value::Slot(slot)`; defined in `lo..hi`.
    refs: Box<[u16]>,
    /// By `slot + LIMIT`: an upper bound on the bits of the word in the slot.
    bits: Box<[u16]>,
    /// Positions that may be dirty; `listed` says which are in here.
    dirty: Vec<i16>,
    listed: Box<[bool]>,
    /// What [`Self::all_home`] notes: positions, and the bits of the words they get.
    moved: Vec<(i16, u16)>,
    lo: i16,
    hi: i16,
    height: i16,
    height_max: i16,
    slot_max: i16,
}

fn at(index: i16) -> usize {
    (index + LIMIT) as usize
}

impl SymbolicStack {
    pub(super) fn new() -> Self {
        let size = 2 * STACK_LIMIT;
        Self {
            values: vec![Value::Slot(0); size].into(),
            refs: vec![0; size].into(),
            bits: vec![256; size].into(),
            dirty: Vec::new(),
            listed: vec![false; size].into(),
            moved: Vec::new(),
            lo: 0,
            hi: 0,
            height: 0,
            height_max: 0,
            slot_max: -1,
        }
    }

    /// Begins a block: every position is home.
    pub(super) fn reset(&mut self) {
        for position in self.dirty.drain(..) {
            self.listed[at(position)] = false;
        }
        (self.lo, self.hi, self.height, self.height_max, self.slot_max) = (0, 0, 0, 0, -1);
    }

    pub(super) fn height(&self) -> i16 {
        self.height
    }

    /// Words that must be on the stack at entry.
    pub(super) fn need(&self) -> u16 {
        self.lo.unsigned_abs()
    }

    /// Words above the entry height that are used.
    pub(super) fn grow(&self) -> u16 {
        self.height_max.max(self.slot_max + 1).max(0) as u16
    }

    /// Whether a stack holds what is needed at entry and what comes on top of it.
    pub(super) fn fits(&self) -> bool {
        usize::from(self.need()) + usize::from(self.grow()) <= STACK_LIMIT
    }

    /// Makes sure that everything from `position` up is defined.
    fn reach(&mut self, position: i16) -> Result<(), OutOfStack> {
        if position < -LIMIT {
            return Err(OutOfStack);
        }
        while self.lo > position {
            self.lo -= 1;
            self.values[at(self.lo)] = Value::Slot(self.lo);
            self.refs[at(self.lo)] = 1;
            self.bits[at(self.lo)] = 256;
        }
        Ok(())
    }

    fn reach_up(&mut self, slot: i16) -> Result<(), OutOfStack> {
        if slot >= LIMIT {
            return Err(OutOfStack);
        }
        while self.hi <= slot {
            self.refs[at(self.hi)] = 0;
            self.hi += 1;
        }
        Ok(())
    }

    /// The position `depth` words below the top; 0 is the top.
    pub(super) fn position(&mut self, depth: u16) -> Result<i16, OutOfStack> {
        let position = self.height - 1 - depth as i16;
        self.reach(position)?;
        Ok(position)
    }

    pub(super) fn get(&self, position: i16) -> Value {
        self.values[at(position)]
    }

    pub(super) fn is_home(&self, position: i16) -> bool {
        match self.get(position) {
            Value::Slot(slot) => slot == position,
            Value::Const { home, .. } => home,
        }
    }

    pub(super) fn refs(&self, slot: i16) -> u16 {
        if slot >= self.hi { 0 } else { self.refs[at(slot)] }
    }

    pub(super) fn pin(&mut self, slot: i16) {
        self.refs[at(slot)] += 1;
    }

    pub(super) fn unpin(&mut self, slot: i16) {
        self.refs[at(slot)] -= 1;
    }

    /// An upper bound on the bits of a slot's word.
    pub(super) fn bits(&self, slot: i16) -> u16 {
        self.bits[at(slot)]
    }

    pub(super) fn set_bits(&mut self, slot: i16, bits: u16) {
        self.bits[at(slot)] = bits;
    }

    fn release(&mut self, position: i16) {
        if let Value::Slot(slot) = self.values[at(position)] {
            self.refs[at(slot)] -= 1;
        }
    }

    fn hold(&mut self, position: i16, value: Value) {
        if let Value::Slot(slot) = value {
            self.refs[at(slot)] += 1;
        }
        self.values[at(position)] = value;
        if !self.is_home(position) && !self.listed[at(position)] {
            self.listed[at(position)] = true;
            self.dirty.push(position);
        }
    }

    /// Replaces what a position holds.
    pub(super) fn set(&mut self, position: i16, value: Value) {
        self.release(position);
        self.hold(position, value);
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), OutOfStack> {
        let position = self.height;
        self.reach_up(position)?;
        // Below `lo` only when the block has popped more than it touched, which `pop` rules out.
        self.hold(position, value);
        self.height += 1;
        self.height_max = self.height_max.max(self.height);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value, OutOfStack> {
        let position = self.position(0)?;
        let value = self.get(position);
        self.release(position);
        self.height = position;
        Ok(value)
    }

    /// Exchanges the values of two positions.
    pub(super) fn swap(&mut self, a: i16, b: i16) {
        // A constant stored at one position is not stored at the other.
        let moved = |value| match value {
            Value::Const { id, .. } => Value::Const { id, home: false },
            slot => slot,
        };
        let (left, right) = (moved(self.get(a)), moved(self.get(b)));
        self.release(a);
        self.release(b);
        self.hold(a, right);
        self.hold(b, left);
    }

    /// A slot for the result that will be pushed next: its own if nobody needs what lies there, else
    /// a free one above.
    pub(super) fn destination(&mut self) -> Result<i16, OutOfStack> {
        let home = self.height;
        self.reach_up(home)?;
        if self.refs(home) == 0 {
            self.slot_max = self.slot_max.max(home);
            return Ok(home);
        }
        self.temporary(home + 1)
    }

    /// A free slot at or above `from`. Live temporaries are as few as dirty positions.
    pub(super) fn temporary(&mut self, from: i16) -> Result<i16, OutOfStack> {
        let mut slot = from.max(self.height);
        while self.refs(slot) != 0 {
            slot += 1;
        }
        self.reach_up(slot)?;
        self.slot_max = self.slot_max.max(slot);
        Ok(slot)
    }

    /// The dirty positions, after those that no longer are were dropped from the list.
    pub(super) fn dirty(&mut self) -> &[i16] {
        let mut dirty = core::mem::take(&mut self.dirty);
        dirty.retain(|&position| {
            let keep = position < self.height && !self.is_home(position);
            self.listed[at(position)] = keep;
            keep
        });
        self.dirty = dirty;
        &self.dirty
    }

    /// The dirty positions, as [`Self::dirty`] left the list.
    pub(super) fn listed(&self) -> impl Iterator<Item = i16> + '_ {
        self.dirty.iter().copied()
    }

    /// Positions listed as dirty, an upper bound on those that are.
    pub(super) fn dirty_bound(&self) -> usize {
        self.dirty.len()
    }

    /// Notes that all positions were brought home, at once.
    pub(super) fn all_home(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let mut dirty = core::mem::take(&mut self.dirty);
        let mut moved = core::mem::take(&mut self.moved);
        for &position in &dirty {
            self.listed[at(position)] = false;
            if position < self.height {
                if let Value::Slot(slot) = self.get(position) {
                    moved.push((position, self.bits[at(slot)]));
                }
                self.release(position);
            }
        }
        for &position in dirty.iter().filter(|&&position| position < self.height) {
            self.values[at(position)] = match self.get(position) {
                Value::Const { id, .. } => Value::Const { id, home: true },
                Value::Slot(_) => {
                    self.refs[at(position)] += 1;
                    Value::Slot(position)
                }
            };
        }
        for (position, bound) in moved.drain(..) {
            self.bits[at(position)] = bound;
        }
        dirty.clear();
        (self.dirty, self.moved) = (dirty, moved);
    }

    /// Forgets what is known of all words but the `kept` ones on top. All are home.
    pub(super) fn forget(&mut self, kept: i16) {
        for position in self.lo.max(-LIMIT)..self.height - kept {
            self.set(position, Value::Slot(position));
            self.set_bits(position, 256);
        }
    }

    /// Pushes a word that an instruction of the table left in its own slot.
    pub(super) fn push_home(&mut self) -> Result<(), OutOfStack> {
        let position = self.height;
        self.reach_up(position)?;
        self.bits[at(position)] = 256;
        self.slot_max = self.slot_max.max(position);
        self.push(Value::Slot(position))
    }

    /// The slot as the IR names it.
    pub(super) fn slot(slot: i16) -> Slot {
        Slot(slot)
    }
}
