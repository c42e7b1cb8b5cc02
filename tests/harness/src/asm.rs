//! A small assembler for case files, and a disassembler for minimised cases.
//!
//! Owns the assembly syntax. Tokens are separated by white space; `;` and `#` begin a comment:
//! - a mnemonic; `PUSHn`, `DUPN`, `SWAPN` and `EXCHANGE` take the next token as their immediate
//! - `PUSH value` and `PUSH @label`: the narrowest push (labels: PUSH2)
//! - `label:` names the next offset; it emits no JUMPDEST
//! - `0x..` or `"0x.."`: raw bytes
//! - `n*( .. )`: the tokens in brackets n times (no labels inside)
//!
//! Never checks that the program is meaningful: bad programs are what the tests are for.

use revm::bytecode::opcode::{self as op, OpCode};
use revm::primitives::{U256, hex};
use std::collections::HashMap;
use std::fmt::Write;
use thiserror::Error;

/// Why a program was not assembled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AsmError {
    /// Neither a mnemonic, a label, nor bytes.
    #[error("unknown token `{0}`")]
    Token(String),
    /// An immediate is missing, malformed, or too wide.
    #[error("`{0}`: bad immediate `{1}`")]
    Immediate(String, String),
    /// A label is used but not defined.
    #[error("label `{0}` is not defined")]
    Label(String),
    /// Brackets do not match.
    #[error("unbalanced brackets")]
    Brackets,
}

/// Assembles a program.
pub fn assemble(text: &str) -> Result<Vec<u8>, AsmError> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let line = line.split([';', '#']).next().unwrap_or_default();
        tokens.extend(line.split_whitespace());
    }
    let mut program = Program::default();
    program.tokens(&tokens)?;
    program.link()
}

#[derive(Default)]
struct Program<'a> {
    code: Vec<u8>,
    labels: HashMap<&'a str, usize>,
    uses: Vec<(usize, &'a str)>,
}

impl<'a> Program<'a> {
    fn tokens(&mut self, tokens: &[&'a str]) -> Result<(), AsmError> {
        let mut at = 0;
        while at < tokens.len() {
            let token = tokens[at];
            at += 1;
            if let Some(times) = token.strip_suffix("*(") {
                let times: usize = times.parse().map_err(|_| AsmError::Token(token.to_owned()))?;
                let len = matching(&tokens[at..])?;
                for _ in 0..times {
                    self.tokens(&tokens[at..at + len])?;
                }
                at += len + 1;
            } else if let Some(label) = token.strip_suffix(':') {
                self.labels.insert(label, self.code.len());
            } else if let Some(bytes) = token.strip_prefix("0x") {
                let bytes = hex::decode(bytes).map_err(|_| AsmError::Token(token.to_owned()))?;
                self.code.extend(bytes);
            } else {
                at += self.instruction(token, tokens.get(at).copied())?;
            }
        }
        Ok(())
    }

    /// Emits one instruction; returns how many further tokens it took.
    fn instruction(&mut self, name: &str, next: Option<&'a str>) -> Result<usize, AsmError> {
        let bad = || AsmError::Immediate(name.to_owned(), next.unwrap_or_default().to_owned());
        if name == "PUSH" {
            let next = next.ok_or_else(bad)?;
            if let Some(label) = next.strip_prefix('@') {
                self.code.push(op::PUSH2);
                self.uses.push((self.code.len(), label));
                self.code.extend([0, 0]);
            } else {
                let value = parse_word(next).ok_or_else(bad)?;
                push_word(&mut self.code, value);
            }
            return Ok(1);
        }
        let opcode = OpCode::parse(name).ok_or_else(|| AsmError::Token(name.to_owned()))?;
        self.code.push(opcode.get());
        let width = opcode.info().immediate_size() as usize;
        if width == 0 {
            return Ok(0);
        }
        let next = next.ok_or_else(bad)?;
        if let Some(label) = next.strip_prefix('@') {
            if width != 2 {
                return Err(bad());
            }
            self.uses.push((self.code.len(), label));
            self.code.extend([0, 0]);
        } else {
            let value = parse_word(next).ok_or_else(bad)?;
            if value.byte_len() > width {
                return Err(bad());
            }
            self.code.extend(&value.to_be_bytes::<32>()[32 - width..]);
        }
        Ok(1)
    }

    fn link(mut self) -> Result<Vec<u8>, AsmError> {
        for (at, label) in self.uses {
            let target =
                *self.labels.get(label).ok_or_else(|| AsmError::Label(label.to_owned()))?;
            let target = u16::try_from(target).map_err(|_| AsmError::Label(label.to_owned()))?;
            self.code[at..at + 2].copy_from_slice(&target.to_be_bytes());
        }
        Ok(self.code)
    }
}

/// Tokens up to the bracket that closes the one just read.
fn matching(tokens: &[&str]) -> Result<usize, AsmError> {
    let mut depth = 1;
    for (at, token) in tokens.iter().enumerate() {
        if token.ends_with("*(") {
            depth += 1;
        } else if *token == ")" {
            depth -= 1;
            if depth == 0 {
                return Ok(at);
            }
        }
    }
    Err(AsmError::Brackets)
}

/// A word as written in case files: decimal, or hexadecimal with `0x`; `-` negates (mod 2^256).
pub fn parse_word(text: &str) -> Option<U256> {
    if let Some(positive) = text.strip_prefix('-') {
        return parse_word(positive).map(|value| value.wrapping_neg());
    }
    match text.strip_prefix("0x") {
        Some(digits) => U256::from_str_radix(digits, 16).ok(),
        None => U256::from_str_radix(text, 10).ok().filter(|_| !text.is_empty()),
    }
}

/// Appends the narrowest PUSH1 to PUSH32 of a value (PUSH1 0 for zero, which every fork has).
pub fn push_word(code: &mut Vec<u8>, value: U256) {
    let width = value.byte_len().max(1);
    code.push(op::PUSH1 + width as u8 - 1);
    code.extend(&value.to_be_bytes::<32>()[32 - width..]);
}

/// The program as text, one instruction a line, each with its offset in a comment.
pub fn disassemble(code: &[u8]) -> String {
    let mut text = String::new();
    let mut pc = 0;
    while pc < code.len() {
        let start = pc;
        let opcode = code[pc];
        pc += 1;
        let info = OpCode::info_by_op(opcode);
        let width = info.map_or(0, |info| info.immediate_size() as usize);
        let line = match info {
            Some(info) if pc + width <= code.len() => {
                let immediate = &code[pc..pc + width];
                pc += width;
                match width {
                    0 => info.name().to_owned(),
                    _ => format!("{} {}", info.name(), hex::encode_prefixed(immediate)),
                }
            }
            // Undefined, or its immediate is cut off: as bytes.
            Some(_) => {
                let bytes = hex::encode_prefixed(&code[start..]);
                pc = code.len();
                bytes
            }
            None => format!("0x{opcode:02x}"),
        };
        let _ = writeln!(text, "{line:<24}; {start:#x}");
    }
    text
}

/// Where the instructions of a program start.
pub fn instruction_starts(code: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut pc = 0;
    while pc < code.len() {
        starts.push(pc);
        pc += 1 + OpCode::info_by_op(code[pc]).map_or(0, |info| info.immediate_size() as usize);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembles() {
        let code = assemble("PUSH @end JUMP ; over\n0xfe end: JUMPDEST PUSH 0x1234 2*( DUP1 )");
        assert_eq!(hex::encode(code.unwrap()), "61000556fe5b6112348080");
        assert_eq!(assemble("PUSH -1").unwrap().len(), 33);
        assert_eq!(
            assemble("PUSH1 0x100"),
            Err(AsmError::Immediate("PUSH1".into(), "0x100".into()))
        );
        assert_eq!(assemble("JUMP @x"), Err(AsmError::Token("@x".into())));
        assert_eq!(assemble("PUSH @x"), Err(AsmError::Label("x".into())));
    }

    #[test]
    fn round_trips() {
        for code in ["6001600201", "61", "0c0c", "e680", "7f00", "5b600056fe"] {
            let code = hex::decode(code).unwrap();
            assert_eq!(assemble(&disassemble(&code)).unwrap(), code);
        }
    }
}
