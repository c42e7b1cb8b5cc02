//! Small assembled programs, and what each part makes of them.

mod jumps;
mod optimise;
mod regions;
mod verify;

use super::{Analysis, Function, Region, build};
use crate::{Blocks, Config, Limits, OpcodeSet, SpecId};
use kiln_abi::Pc;
use revm_bytecode::opcode::{self as op, OpCode};
use std::collections::HashMap;

/// Assembles words: `name:` a JUMPDEST with a label, `@name` a PUSH2 of it, `0x..` the shortest PUSH, and
/// mnemonics.
fn assemble(text: &str) -> (Vec<u8>, HashMap<String, Pc>) {
    let (mut code, mut labels, mut uses) = (Vec::new(), HashMap::new(), Vec::new());
    for word in text.split_whitespace() {
        if let Some(name) = word.strip_suffix(':') {
            labels.insert(name.to_owned(), Pc(code.len() as u32));
            code.push(op::JUMPDEST);
        } else if let Some(name) = word.strip_prefix('@') {
            uses.push((code.len() + 1, name));
            code.extend([op::PUSH2, 0, 0]);
        } else if let Some(digits) = word.strip_prefix("0x") {
            let digits = format!("{}{digits}", if digits.len() % 2 == 0 { "" } else { "0" });
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
            code.push(op::PUSH0 + digits.len() as u8 / 2);
            code.extend((0..digits.len()).step_by(2).map(byte));
        } else {
            code.push(OpCode::parse(word).unwrap_or_else(|| panic!("no opcode {word}")).get());
        }
    }
    for (at, name) in uses {
        code[at..at + 2].copy_from_slice(&(labels[name].0 as u16).to_be_bytes());
    }
    (code, labels)
}

/// A program, ready to be analysed.
struct Program {
    code: Vec<u8>,
    labels: HashMap<String, Pc>,
    blocks: Blocks,
    config: Config,
}

impl Program {
    fn new(text: &str) -> Self {
        let (code, labels) = assemble(text);
        Self { labels, ..Self::of(code) }
    }

    fn of(code: Vec<u8>) -> Self {
        let config = Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::EMPTY };
        let limits = Limits::default();
        let blocks = Blocks::scan(&code, &config, &limits).expect("within the limits");
        Self { code, labels: HashMap::new(), blocks, config }
    }

    fn analysis(&self) -> Analysis<'_> {
        let limits = Limits::default();
        Analysis::new(&self.code, &self.blocks, &self.config, &limits).expect("within the limits")
    }

    /// The function of the region that begins at a label, or at pc 0; every block is equally hot.
    fn function(&self, head: &str) -> Function {
        let analysis = self.analysis();
        let pc = self.labels.get(head).copied().unwrap_or_default();
        let region = Region::grow(&analysis, pc, &|_| 1).expect("a block that can be compiled");
        let function = build(&analysis, &region, &Limits::default()).expect("within the limits");
        assert_eq!(super::verify(&function), Ok(()), "{function}");
        function
    }
}

/// The text of a program's function.
fn text(program: &str, head: &str) -> String {
    Program::new(program).function(head).to_string()
}
