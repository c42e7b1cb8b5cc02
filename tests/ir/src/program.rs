//! Programs with the structure of compiled contracts: loops, branches, internal calls, over a stack
//! that always holds enough.

/// A program being written.
struct Program<'a> {
    rng: &'a mut fastrand::Rng,
    code: Vec<u8>,
    /// Words on the stack that the present function may touch.
    height: usize,
    /// Where two bytes are to be replaced by the pc of a label.
    uses: Vec<(usize, usize)>,
    /// By label, its pc.
    labels: Vec<usize>,
    /// Labels of functions that take two words and give one.
    functions: Vec<usize>,
    /// Statements that may still be written.
    budget: usize,
}

/// A program of about so many statements.
pub fn program(rng: &mut fastrand::Rng, budget: usize) -> Vec<u8> {
    let functions = rng.usize(..3);
    let mut program = Program {
        rng,
        code: Vec::new(),
        height: 0,
        uses: Vec::new(),
        labels: Vec::new(),
        functions: Vec::new(),
        budget,
    };
    program.functions = (0..functions).map(|_| program.label()).collect();
    for _ in 0..program.rng.usize(2..6) {
        program.push();
    }
    program.body(3);
    let end = program.rng.u8(..3);
    match end {
        0 => program.code.push(0x00),
        1 => program.code.push(0xf3),
        _ => program.code.extend([0x55, 0x00]),
    }
    for function in program.functions.clone() {
        program.function(function);
    }
    program.finish()
}

impl Program<'_> {
    fn finish(mut self) -> Vec<u8> {
        for (at, label) in self.uses {
            self.code[at..at + 2].copy_from_slice(&(self.labels[label] as u16).to_be_bytes());
        }
        self.code
    }

    fn label(&mut self) -> usize {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    fn place(&mut self, label: usize) {
        self.labels[label] = self.code.len();
        self.code.push(0x5b);
    }

    fn push_label(&mut self, label: usize) {
        self.uses.push((self.code.len() + 1, label));
        self.code.extend([0x61, 0, 0]);
    }

    fn push(&mut self) {
        self.height += 1;
        match self.rng.u8(..8) {
            0 => self.code.extend([0x60, [0, 1, 31, 32, 64, 255][self.rng.usize(..6)]]),
            1 => self
                .code
                .push([0x30, 0x33, 0x34, 0x36, 0x58, 0x59, 0x5a, 0x42][self.rng.usize(..8)]),
            2 => {
                self.code.push(0x7f);
                let byte = [0, 0x80, 0xff][self.rng.usize(..3)];
                let rng = &mut *self.rng;
                self.code.extend((0..32).map(|_| if rng.bool() { byte } else { rng.u8(..) }));
            }
            3 => self.code.extend([0x60, self.rng.u8(..), 0x35]),
            _ if self.height > 1 => {
                self.code.push(0x80 + self.rng.u8(..16.min(self.height as u8 - 1)))
            }
            _ => self.code.extend([0x60, self.rng.u8(..)]),
        }
    }

    /// Statements that leave the height as it was.
    fn body(&mut self, depth: usize) {
        for _ in 0..self.rng.usize(1..6) {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            match self.rng.u8(..16) {
                0..2 if depth != 0 => self.branch(depth),
                2..4 if depth != 0 => self.count_down(depth),
                4 if depth != 0 => self.count_up(depth),
                5..8 => self.call(),
                8 => self.effect(),
                9 => self.memory(),
                _ => self.change(),
            }
        }
    }

    /// Replaces a word by one computed from others.
    fn change(&mut self) {
        let before = self.height;
        for _ in 0..self.rng.usize(1..6) {
            if self.height > before + 1 && self.rng.bool() {
                self.height -= 1;
                let ops =
                    [0x01, 0x02, 0x03, 0x04, 0x06, 0x10, 0x11, 0x14, 0x16, 0x17, 0x18, 0x1b, 0x1c];
                self.code.push(ops[self.rng.usize(..ops.len())]);
            } else if self.height > before && self.rng.u8(..4) == 0 {
                self.code.push([0x15, 0x19][self.rng.usize(..2)]);
            } else {
                self.push();
            }
        }
        while self.height > before {
            if self.height > 1 {
                let depth = self.rng.u8(..16.min(self.height as u8 - 1));
                self.code.push(0x90 + depth);
            }
            self.code.push(0x50);
            self.height -= 1;
        }
        if self.height > 2 && self.rng.bool() {
            self.code.push(0x90 + self.rng.u8(..2));
        }
    }

    fn effect(&mut self) {
        match self.rng.u8(..5) {
            0 => {
                (0..2).for_each(|_| self.push());
                self.code.push(0x55);
                self.height -= 2;
            }
            1 => {
                (0..3).for_each(|_| self.push());
                self.code.push(0xa1);
                self.height -= 3;
            }
            2 => {
                self.push();
                self.code.extend([0x54, 0x50]);
                self.height -= 1;
            }
            3 => {
                self.code.extend([0x60, self.rng.u8(..), 0x60, self.rng.u8(..), 0x20]);
                self.height += 1;
                self.drop_one();
            }
            _ => {
                self.code.push(0x42);
                self.height += 1;
                self.drop_one();
            }
        }
    }

    /// Brings the top word below others and drops what comes up.
    fn drop_one(&mut self) {
        if self.height > 2 {
            self.code.push(0x90 + self.rng.u8(..2));
        }
        self.code.push(0x50);
        self.height -= 1;
    }

    fn memory(&mut self) {
        let offset = self.rng.u8(..8) * 16;
        match self.rng.u8(..3) {
            0 => {
                self.push();
                self.code.extend([0x60, offset, 0x52 + self.rng.u8(..2)]);
                self.height -= 1;
            }
            1 => {
                self.code.extend([0x60, offset, 0x51]);
                self.height += 1;
                self.drop_one();
            }
            _ => {
                self.push();
                self.code.extend([0x61, 0x03, 0xff, 0x16, 0x51]);
                self.drop_one();
            }
        }
    }

    fn branch(&mut self, depth: usize) {
        let (other, end) = (self.label(), self.label());
        self.push();
        if self.rng.bool() {
            self.code.extend([
                0x60,
                self.rng.u8(..),
                [0x10, 0x11, 0x14, 0x12][self.rng.usize(..4)],
            ]);
        }
        self.push_label(other);
        self.code.push(0x57);
        self.height -= 1;
        self.body(depth - 1);
        self.push_label(end);
        self.code.push(0x56);
        self.place(other);
        if self.rng.bool() {
            self.body(depth - 1);
        }
        self.place(end);
    }

    /// `n; do { } while (--n)`
    fn count_down(&mut self, depth: usize) {
        let head = self.label();
        self.code.extend([0x60, self.rng.u8(1..6)]);
        self.height += 1;
        self.place(head);
        // The counter is below what the body may touch.
        let height = core::mem::replace(&mut self.height, 0);
        (0..2).for_each(|_| self.push());
        self.body(depth - 1);
        (0..2).for_each(|_| self.code.push(0x50));
        self.height = height;
        self.code.extend([0x60, 1, 0x90, 0x03, 0x80]);
        self.push_label(head);
        self.code.push(0x57);
        self.code.push(0x50);
        self.height -= 1;
    }

    /// `for (i = 0; i < n; i++) { }`
    fn count_up(&mut self, depth: usize) {
        let (head, end) = (self.label(), self.label());
        self.code.extend([0x60, 0]);
        self.place(head);
        self.code.extend([0x60, self.rng.u8(1..6), 0x81, 0x10, 0x15]);
        self.push_label(end);
        self.code.push(0x57);
        let height = core::mem::replace(&mut self.height, 1);
        self.push();
        self.body(depth - 1);
        // What lies there now is the counter or not; either way it grows.
        self.code.push(0x50);
        self.height = height;
        self.code.extend([0x60, 1, 0x01]);
        self.push_label(head);
        self.code.push(0x56);
        self.place(end);
        self.code.push(0x50);
    }

    fn call(&mut self) {
        if self.functions.is_empty() {
            return self.change();
        }
        let back = self.label();
        self.push_label(back);
        self.height += 1;
        (0..2).for_each(|_| self.push());
        let function = self.functions[self.rng.usize(..self.functions.len())];
        self.push_label(function);
        self.code.push(0x56);
        self.place(back);
        self.height -= 2;
        self.drop_one();
    }

    /// Two words on the return address to one.
    fn function(&mut self, label: usize) {
        self.place(label);
        self.height = 2;
        self.functions.retain(|&other| other != label);
        self.body(2);
        self.code.push([0x01, 0x03, 0x16][self.rng.usize(..3)]);
        self.code.extend([0x90, 0x56]);
    }
}
