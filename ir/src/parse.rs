//! The text form of a module, read back.
//!
//! **Owns** the grammar that [`crate::Text`] writes, line by line. Constants that the text uses by
//! value and does not declare join the pool, so that IR can be written by hand.
//!
//! **Callers guarantee** nothing: any text is valid input; work and memory are linear in its length.
//!
//! **Never** checks what a module means: that is [`crate::verify`].

use crate::display::{kind_name, plain_name};
use crate::module::{Cond, ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};
use kiln_abi::{Exit, ExitId, ExitKind, Fixup, Helper, Pc, Slot, Source, Word};
use std::collections::HashMap;
use thiserror::Error;

/// Bytes of text that are accepted, so that no index overflows.
const TEXT_BYTES_MAX: usize = 1 << 28;

/// Why a text is not a module.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: expected {expected}, found {found:?}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What should have stood there.
    pub expected: &'static str,
    /// What stood there; empty at the end of a line.
    pub found: String,
}

/// What should have stood at a place; the line is known further up.
struct Expected<'a>(&'static str, &'a str);
type Parsed<'a, T> = Result<T, Expected<'a>>;

/// Reads the text form of a module. The result is to be verified before it is used.
///
/// # Errors
/// At the first line that is not of the grammar.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser::default();
    let mut lines = 0;
    let at = |line, Expected(expected, found): Expected<'_>| ParseError {
        line,
        expected,
        found: found.chars().take(40).collect(),
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(at(0, Expected("at most 256 MiB of text", "more")));
    }
    for line in text.lines() {
        lines += 1;
        parser.line(line).map_err(|expected| at(lines, expected))?;
    }
    parser.finish().map_err(|expected| at(lines, expected))
}

/// The rest of a line.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// The next token: a run up to white space or punctuation, or a punctuation mark. Empty at the
    /// end of the line.
    fn token(&mut self) -> &'a str {
        let text = self.0.trim_start();
        let is_mark = |c: char| matches!(c, ',' | '=' | '{' | '}');
        let len = match text.find(|c: char| c.is_whitespace() || is_mark(c)) {
            Some(0) => 1,
            Some(len) => len,
            None => text.len(),
        };
        let (token, rest) = text.split_at(len);
        self.0 = rest;
        token
    }

    fn peek(mut self) -> &'a str {
        self.token()
    }

    /// Takes the next token if it is `token`.
    fn take(&mut self, token: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.token() == token;
        if found {
            *self = ahead;
        }
        found
    }

    fn expect(&mut self, token: &'static str) -> Parsed<'a, ()> {
        let found = self.token();
        if found == token { Ok(()) } else { Err(Expected(token, found)) }
    }

    fn end(&mut self) -> Parsed<'a, ()> {
        match self.token() {
            "" => Ok(()),
            found => Err(Expected("the end of the line", found)),
        }
    }

    fn parsed<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Parsed<'a, T> {
        let token = self.token();
        read(token).ok_or(Expected(expected, token))
    }

    fn number<T: core::str::FromStr>(&mut self, expected: &'static str) -> Parsed<'a, T> {
        self.parsed(expected, |token| token.parse().ok())
    }

    /// A number behind its name.
    fn field<T: core::str::FromStr>(&mut self, name: &'static str) -> Parsed<'a, T> {
        self.expect(name)?;
        self.number("a number in range")
    }

    fn pc(&mut self) -> Parsed<'a, Pc> {
        let read = |token: &str| u32::from_str_radix(token.strip_prefix('@')?, 16).ok().map(Pc);
        self.parsed("a pc such as @2a", read)
    }

    fn slot(&mut self) -> Parsed<'a, Slot> {
        self.parsed("a slot such as s-1", slot)
    }

    fn exit(&mut self) -> Parsed<'a, ExitId> {
        self.parsed("an exit such as x3", |token| index(token, 'x').map(ExitId))
    }

    fn target(&mut self) -> Parsed<'a, Target> {
        let target = self.parsed("a region or an exit", |token| {
            let region = index(token, 'r').map(Target::Region);
            region.or_else(|| index(token, 'x').map(|exit| Target::Exit(ExitId(exit))))
        })?;
        match target {
            Target::Region(region) if self.take("poll") => {
                Ok(Target::Back { region, exit: self.exit()? })
            }
            target => Ok(target),
        }
    }
}

fn index(token: &str, letter: char) -> Option<u32> {
    token.strip_prefix(letter)?.parse().ok()
}

fn slot(token: &str) -> Option<Slot> {
    token.strip_prefix('s')?.parse().ok().map(Slot)
}

fn word(token: &str) -> Option<Word> {
    let digits = token.strip_prefix("0x")?;
    let hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if digits.is_empty() || digits.len() > 64 || !hexadecimal {
        return None;
    }
    let mut word = Word::ZERO;
    for (limb, chunk) in word.0.iter_mut().zip(digits.as_bytes().rchunks(16)) {
        *limb = u64::from_str_radix(core::str::from_utf8(chunk).ok()?, 16).ok()?;
    }
    Some(word)
}

/// Operations without a parameter of their own.
pub(crate) const PLAIN: [Op; 24] = [
    Op::Copy,
    Op::Add,
    Op::Sub,
    Op::Mul,
    Op::And,
    Op::Or,
    Op::Xor,
    Op::Not,
    Op::ShlImm,
    Op::ShrImm,
    Op::SarImm,
    Op::ByteImm,
    Op::SignextendImm,
    Op::Mload,
    Op::Mstore,
    Op::Mstore8,
    Op::Calldataload,
    Op::Address,
    Op::Caller,
    Op::CallValue,
    Op::Calldatasize,
    Op::Returndatasize,
    Op::Msize,
    Op::Gas,
];

fn op(token: &str) -> Option<Op> {
    let helper = |name: &str| Helper::ALL.iter().copied().find(|helper| helper.name() == name);
    match token.split_once('.') {
        Some(("pure", name)) => helper(name).map(Op::Pure),
        Some(("guarded", name)) => helper(name).map(Op::Guarded),
        Some(("run", name)) => helper(name).map(Op::Instruction),
        Some(_) => None,
        None => {
            let plain = PLAIN.into_iter().find(|&op| plain_name(op) == Some(token));
            plain.or_else(|| cond(token).map(Op::Set))
        }
    }
}

fn cond(token: &str) -> Option<Cond> {
    Cond::ALL.into_iter().find(|cond| cond.name() == token)
}

fn kind(token: &str) -> Option<ExitKind> {
    use ExitKind::*;
    [Interpret, Resume, Stop, Return, Revert].into_iter().find(|&kind| kind_name(kind) == token)
}

#[derive(Default)]
struct Parser {
    module: Module,
    code_seen: bool,
    /// By value, the first constant that has it.
    first: HashMap<Word, u32>,
    /// The region whose terminator has not come yet.
    open: Option<Region>,
}

impl Parser {
    fn line<'a>(&mut self, line: &'a str) -> Parsed<'a, ()> {
        let line = line.split_once(';').map_or(line, |(line, _)| line);
        let mut cursor = Cursor(line);
        let whole = cursor;
        match (cursor.token(), self.open.is_some()) {
            ("", _) => return Ok(()),
            (first @ ("jump" | "if" | "leave"), true) => self.terminator(first, &mut cursor)?,
            (_, true) => {
                cursor = whole;
                self.inst(&mut cursor)?;
            }
            ("code", false) => {
                self.module.code_len = cursor.number("the length of the code")?;
                self.code_seen = true;
            }
            ("const", false) => self.constant_line(&mut cursor)?,
            ("region", false) => self.region(&mut cursor)?,
            ("exit", false) => self.exit(&mut cursor)?,
            (found, false) => return Err(Expected("code, const, region or exit", found)),
        }
        cursor.end()
    }

    fn finish(self) -> Parsed<'static, Module> {
        match (self.open, self.code_seen) {
            (Some(_), _) => Err(Expected("a terminator", "")),
            (None, false) => Err(Expected("a line with the length of the code", "")),
            (None, true) => Ok(self.module),
        }
    }

    fn constant_line<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        let next = self.module.exits.pool.len();
        cursor.parsed("the next constant of the pool", |token| {
            index(token, 'c').filter(|&index| index as usize == next)
        })?;
        cursor.expect("=")?;
        let word = cursor.parsed("a word such as 0x20", word)?;
        self.intern(word, true);
        Ok(())
    }

    /// Adds a constant, if it is new or to be `declared`.
    fn intern(&mut self, word: Word, declared: bool) -> u32 {
        let pool = &mut self.module.exits.pool;
        let known = self.first.get(&word).copied();
        if let (Some(id), false) = (known, declared) {
            return id;
        }
        let id = pool.len() as u32;
        pool.push(word);
        self.first.entry(word).or_insert(id);
        id
    }

    fn constant(&mut self, token: &str) -> Option<u32> {
        index(token, 'c').or_else(|| word(token).map(|word| self.intern(word, false)))
    }

    fn operand<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, Operand> {
        cursor.parsed("a slot or a constant", |token| {
            let constant = |id| Operand::Const(ConstId(id));
            slot(token).map(Operand::Slot).or_else(|| self.constant(token).map(constant))
        })
    }

    fn region<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        let next = self.module.regions.len();
        cursor.parsed("the next region", |token| {
            index(token, 'r').filter(|&index| index as usize == next)
        })?;
        let pc = cursor.pc()?;
        let is_jumpdest = cursor.take("jumpdest");
        let (need, grow) = (cursor.field("need")?, cursor.field("grow")?);
        let (height, gas) = (cursor.field("height")?, cursor.field("gas")?);
        cursor.expect("entry")?;
        let entry_exit = cursor.exit()?;
        let instructions = cursor.field("instructions")?;
        self.open = Some(Region {
            pc,
            is_jumpdest,
            need,
            grow,
            height,
            gas,
            entry_exit,
            insts_start: self.module.insts.len() as u32,
            insts_len: 0,
            terminator: Terminator::Exit(entry_exit),
            instructions,
        });
        Ok(())
    }

    fn inst<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        let mut behind = *cursor;
        behind.token();
        let dst = if behind.peek() == "=" {
            let dst = cursor.slot()?;
            cursor.expect("=")?;
            Some(dst)
        } else {
            None
        };
        let op = cursor.parsed("an operation or a terminator", op)?;
        let args = self.args(cursor)?;
        let imm = if cursor.peek().starts_with('#') {
            cursor.parsed("an immediate such as #8", |token| index(token, '#'))?
        } else {
            0
        };
        let checked = !cursor.take("unchecked");
        let exit = if cursor.take("else") { Some(cursor.exit()?) } else { None };
        let pc = cursor.pc()?;
        self.module.insts.push(Inst { op, checked, dst, args, imm, exit, pc });
        Ok(())
    }

    fn args<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, [Option<Operand>; 3]> {
        let mut args = [None; 3];
        let next = cursor.peek();
        if next.starts_with(['#', '@']) || matches!(next, "unchecked" | "else") {
            return Ok(args);
        }
        for arg in &mut args {
            *arg = if cursor.take("_") { None } else { Some(self.operand(cursor)?) };
            if !cursor.take(",") {
                break;
            }
        }
        Ok(args)
    }

    fn terminator<'a>(&mut self, first: &str, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        let terminator = match first {
            "leave" => Terminator::Exit(cursor.exit()?),
            "if" => {
                let cond = cursor.parsed("a comparison such as ult", cond)?;
                let a = self.operand(cursor)?;
                cursor.expect(",")?;
                let b = self.operand(cursor)?;
                cursor.expect("then")?;
                let taken = cursor.target()?;
                cursor.expect("else")?;
                Terminator::Branch { cond, a, b, taken, next: cursor.target()? }
            }
            _ if cursor.peek().starts_with('s') => {
                let dest = cursor.slot()?;
                cursor.expect("else")?;
                Terminator::JumpDynamic { dest, exit: cursor.exit()? }
            }
            _ => Terminator::Jump(cursor.target()?),
        };
        if let Some(mut region) = self.open.take() {
            region.insts_len = self.module.insts.len() as u32 - region.insts_start;
            region.terminator = terminator;
            self.module.regions.push(region);
        }
        Ok(())
    }

    fn exit<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        let next = self.module.exits.exits.len();
        cursor.parsed("the next exit", |token| {
            index(token, 'x').filter(|&index| index as usize == next)
        })?;
        let kind = cursor.parsed("a kind of exit", kind)?;
        let pc = cursor.pc()?;
        let (moved, height) = (cursor.field("moved")?, cursor.field("height")?);
        let (gas_back, rest) = (cursor.field("gas_back")?, cursor.field("rest")?);
        let start = self.module.exits.fixups.len();
        if cursor.take("{") {
            self.fixups(cursor)?;
        }
        let len = self.module.exits.fixups.len() - start;
        let fixups_len =
            u16::try_from(len).map_err(|_| Expected("at most 65535 fixups", "more"))?;
        let fixups_start = start as u32;
        let exit = Exit { pc, kind, moved, height, gas_back, rest, fixups_start, fixups_len };
        self.module.exits.exits.push(exit);
        Ok(())
    }

    /// Fixups and the closing brace.
    fn fixups<'a>(&mut self, cursor: &mut Cursor<'a>) -> Parsed<'a, ()> {
        loop {
            let slot = cursor.slot()?;
            cursor.expect("=")?;
            let source = match self.operand(cursor)? {
                Operand::Slot(slot) => Source::Slot(slot),
                Operand::Const(ConstId(id)) => Source::Const(id),
            };
            self.module.exits.fixups.push(Fixup { slot, source });
            if !cursor.take(",") {
                return cursor.expect("}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
