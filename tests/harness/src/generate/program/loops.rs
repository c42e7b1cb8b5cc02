//! Loops: short ones around anything, and ones long enough for compiled code to be polled in them.

use super::{NESTING_MAX, Program};
use revm::bytecode::opcode as op;

impl Program<'_, '_> {
    /// A loop of a few rounds around statements, tested at its end or at its head.
    pub(super) fn repeat(&mut self) {
        if self.nesting >= NESTING_MAX - 1 {
            return self.memory();
        }
        let times = 1 + self.choices.below(6);
        let count = 1 + self.choices.below(4);
        match self.choices.chance(60) {
            true => self.until(times, count),
            false => self.while_left(times, count),
        }
    }

    /// Thousands of rounds around next to nothing: a loop in compiled code leaves it now and then.
    pub(super) fn long_loop(&mut self) {
        if self.nesting > 0 {
            return self.repeat();
        }
        let times = self.choices.pick(&[1000, 1023, 1024, 1025, 1500, 2100]);
        // Nothing in it that loops or calls.
        self.nesting = NESTING_MAX;
        let head = self.label();
        self.push_small(times);
        self.place(head);
        let height = self.height;
        let floor = std::mem::replace(&mut self.floor, height);
        for _ in 0..self.choices.below(3) {
            match self.choices.below(4) {
                0 => self.memory(),
                1 => self.shuffle(),
                _ => self.arithmetic(),
            }
        }
        self.settle(height);
        self.floor = floor;
        self.count_down(head);
        self.nesting = 0;
    }

    fn until(&mut self, times: usize, count: usize) {
        self.nesting += 1;
        let head = self.label();
        self.push_small(times);
        self.place(head);
        self.statements_above(count);
        self.count_down(head);
        self.nesting -= 1;
    }

    /// The word on top is the rounds left: one less, back to `head` if it is not zero, else gone.
    fn count_down(&mut self, head: super::Label) {
        self.push_small(1);
        self.op(op::SWAP1, 2, 2);
        self.op(op::SUB, 2, 1);
        self.op(op::DUP1, 1, 2);
        self.push_label(head);
        self.op(op::JUMPI, 2, 0);
        self.op(op::POP, 1, 0);
    }

    /// As `for` loops are compiled: the index counts up, the condition is at the head.
    fn while_left(&mut self, times: usize, count: usize) {
        self.nesting += 1;
        let (head, end) = (self.label(), self.label());
        self.push_small(0);
        self.place(head);
        self.push_small(times);
        self.op_deep(op::DUP2, 2, 3);
        self.op(op::LT, 2, 1);
        self.op(op::ISZERO, 1, 1);
        self.push_label(end);
        self.op(op::JUMPI, 2, 0);
        self.statements_above(count);
        self.push_small(1);
        self.op(op::ADD, 2, 1);
        self.push_label(head);
        self.op(op::JUMP, 1, 0);
        self.place(end);
        self.op(op::POP, 1, 0);
        self.nesting -= 1;
    }
}
