//! Local rewrites of one operation: constants, identities, what bounds decide.
//!
//! **Owns** the normal form of operations: a constant on the right, shifts by constants as immediates,
//! comparisons that are not of comparisons. **Callers guarantee** operands that were simplified
//! themselves. **Never** looks at a path: what it answers holds wherever the operands do.

use super::{
    bounds::{is_positive, ones},
    function::{Inst, Op, Value, bit_len},
    graph::Graph,
};
use crate::{
    fold::{self, to_u256},
    module::{self, Cond},
};
use kiln_abi::{Helper, Word};

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// It always comes out so.
    Known(bool),
    /// The same comparison.
    Is(Cond, Value, Value),
}

/// Rewrites in one step, at most so often for one instruction.
const STEPS_MAX: usize = 8;

/// Brings an instruction into normal form; the value that is the same as its result, if there is one
/// already.
pub(super) fn simplify(graph: &mut Graph, inst: &mut Inst) -> Option<Value> {
    for _ in 0..STEPS_MAX {
        let before = (inst.op, inst.args, inst.imm);
        let same = match inst.op {
            Op::Word(op) => word(graph, inst, op),
            Op::Slot(_) | Op::Narrow | Op::Run(_) => return None,
        };
        if same.is_some() || before == (inst.op, inst.args, inst.imm) {
            return same;
        }
    }
    None
}

fn word(graph: &mut Graph, inst: &mut Inst, op: module::Op) -> Option<Value> {
    use module::Op::*;
    match op {
        Add | Mul | And | Or | Xor => commute(graph, inst),
        _ => {}
    }
    if let Some(folded) = folded(graph, inst, op) {
        return Some(graph.constant(folded));
    }
    let (Some(a), b) = (inst.args[0], inst.args[1]) else { return None };
    let right = b.and_then(|b| graph.word(b));
    match (op, right) {
        (Add | Sub | Or | Xor, Some(Word::ZERO)) => Some(a),
        (Add, Some(c)) => {
            reassociate(graph, inst, module::Op::Add, a, c);
            None
        }
        (Mul, Some(Word::ONE)) => Some(a),
        (And | Mul, Some(Word::ZERO)) => Some(graph.constant(Word::ZERO)),
        (Mul, Some(c)) if is_power_of_two(&c) => {
            immediate(inst, ShlImm, a, u32::from(bit_len(&c)) - 1);
            None
        }
        (And, Some(c)) => and_constant(graph, inst, a, c),
        (And | Or, None) if Some(a) == b => Some(a),
        (Sub | Xor, None) if Some(a) == b => Some(graph.constant(Word::ZERO)),
        (Not, _) => match graph.inst(a) {
            Some(inner) if inner.op == Op::Word(Not) => inner.args[0],
            _ => None,
        },
        (Set(cond), _) => set(graph, inst, cond, a, b?),
        (ShlImm | ShrImm | SarImm | ByteImm | SignextendImm, _) => shift(graph, inst, op, a),
        (Pure(helper), _) => pure(graph, inst, helper, a, b),
        _ => None,
    }
}

/// A constant goes to the right; else the older value to the left, so that equal operations look equal.
fn commute(graph: &Graph, inst: &mut Inst) {
    let [Some(a), Some(b), _] = inst.args else { return };
    let swap = match (graph.word(a), graph.word(b)) {
        (Some(_), None) => true,
        (None, Some(_)) => false,
        _ => b < a,
    };
    if swap {
        inst.args.swap(0, 1);
    }
}

/// The result of an operation on constants.
fn folded(graph: &Graph, inst: &Inst, op: module::Op) -> Option<Word> {
    let mut words = [Word::ZERO; 3];
    for (word, arg) in words.iter_mut().zip(inst.args) {
        if let Some(arg) = arg {
            *word = graph.word(arg)?;
        }
    }
    inst.args[0]?;
    match op {
        module::Op::Pure(helper) => Some(fold::pure(helper, words[0], words[1], words[2])),
        _ => fold::binary(op, words[0], words[1], inst.imm),
    }
}

/// `(x op c1) op c2` is `x op (c1 op c2)`.
fn reassociate(graph: &mut Graph, inst: &mut Inst, op: module::Op, a: Value, c: Word) {
    let Some(inner) = graph.inst(a).filter(|inner| inner.op == Op::Word(op)) else { return };
    let [Some(x), Some(y), _] = inner.args else { return };
    if let Some(c) = graph.word(y).and_then(|y| fold::binary(op, y, c, 0)) {
        inst.args = [Some(x), Some(graph.constant(c)), None];
    }
}

fn immediate(inst: &mut Inst, op: module::Op, a: Value, imm: u32) {
    (inst.op, inst.args, inst.imm) = (Op::Word(op), [Some(a), None, None], imm);
}

fn and_constant(graph: &mut Graph, inst: &mut Inst, a: Value, c: Word) -> Option<Value> {
    let bound = graph.max(a);
    // All bits that the word can have are kept.
    let low = ones(bit_len(&bound));
    if fold::binary(module::Op::And, c, low, 0) == Some(low) {
        return Some(a);
    }
    reassociate(graph, inst, module::Op::And, a, c);
    None
}

fn set(graph: &mut Graph, inst: &mut Inst, cond: Cond, a: Value, b: Value) -> Option<Value> {
    match compare(graph, cond, a, b) {
        Compared::Known(holds) => Some(graph.small(u64::from(holds))),
        Compared::Is(Cond::Ne, a, b) if graph.word(b) == Some(Word::ZERO) && is_bool(graph, a) => {
            Some(a)
        }
        Compared::Is(cond, a, b) => {
            inst.op = Op::Word(module::Op::Set(cond));
            inst.args = [Some(a), Some(b), None];
            None
        }
    }
}

fn is_bool(graph: &Graph, value: Value) -> bool {
    bit_len(&graph.max(value)) <= 1
}

/// What a comparison comes to; the constant of two operands is on the right then.
pub(super) fn compare(graph: &mut Graph, cond: Cond, a: Value, b: Value) -> Compared {
    let mut now = (cond, a, b);
    for _ in 0..STEPS_MAX {
        match compare_step(graph, now.0, now.1, now.2) {
            Compared::Is(cond, a, b) if (cond, a, b) != now => now = (cond, a, b),
            done => return done,
        }
    }
    Compared::Is(now.0, now.1, now.2)
}

fn compare_step(graph: &mut Graph, cond: Cond, a: Value, b: Value) -> Compared {
    use Cond::*;
    let is = Compared::Is;
    if a == b {
        return Compared::Known(matches!(cond, Eq | Ule | Uge | Sle | Sge));
    }
    let (left, right) = (graph.word(a), graph.word(b));
    let c = match (left, right) {
        (Some(x), Some(y)) => return Compared::Known(fold::compare(cond, &x, &y)),
        (Some(_), None) => return is(cond.swap(), b, a),
        (None, right) => right,
    };
    let (x, y) = (graph.max(a), graph.max(b));
    if is_positive(&x) && is_positive(&y) {
        // Of words without sign bit the orders agree.
        match cond {
            Slt => return is(Ult, a, b),
            Sgt => return is(Ugt, a, b),
            Sle => return is(Ule, a, b),
            Sge => return is(Uge, a, b),
            _ => {}
        }
    }
    if matches!(cond, Eq | Ne) && c.is_none() && b < a {
        return is(cond, b, a);
    }
    let Some(c) = c else { return is(cond, a, b) };
    match cond {
        Eq | Ne if fold::compare(Ugt, &c, &x) => return Compared::Known(cond == Ne),
        Ult | Ule | Ugt | Uge => {
            if let Some(known) = by_bound(cond, &x, &c) {
                return Compared::Known(known);
            }
        }
        _ => {}
    }
    match (cond, c) {
        (Ugt, Word::ZERO) | (Uge, Word::ONE) => is(Ne, a, b_zero(graph)),
        (Ult, Word::ONE) | (Ule, Word::ZERO) => is(Eq, a, b_zero(graph)),
        (Eq, Word::ONE) if x == Word::ONE => is(Ne, a, b_zero(graph)),
        (Ne, Word::ONE) if x == Word::ONE => is(Eq, a, b_zero(graph)),
        (Eq | Ne, Word::ZERO) => against_zero(graph, cond, a, b),
        _ => is(cond, a, b),
    }
}

fn b_zero(graph: &mut Graph) -> Value {
    graph.constant(Word::ZERO)
}

/// `x cond c` for all `x` up to a bound, where that is always the same.
fn by_bound(cond: Cond, bound: &Word, c: &Word) -> Option<bool> {
    let at = |x: &Word| fold::compare(cond, x, c);
    // The order is monotone: it is constant if it is at the ends.
    let low = at(&Word::ZERO);
    (low == at(bound)).then_some(low)
}

/// `a == 0` or `a != 0`, where `a` is a comparison or a difference itself.
fn against_zero(graph: &Graph, cond: Cond, a: Value, b: Value) -> Compared {
    let Some(inner) = graph.inst(a) else { return Compared::Is(cond, a, b) };
    let [Some(x), Some(y), _] = inner.args else { return Compared::Is(cond, a, b) };
    match inner.op {
        Op::Word(module::Op::Set(inner)) => {
            let cond = if cond == Cond::Ne { inner } else { inner.negate() };
            Compared::Is(cond, x, y)
        }
        Op::Word(module::Op::Sub | module::Op::Xor) => Compared::Is(cond, x, y),
        _ => Compared::Is(cond, a, b),
    }
}

fn shift(graph: &mut Graph, inst: &mut Inst, op: module::Op, a: Value) -> Option<Value> {
    use module::Op::*;
    let bound = graph.max(a);
    match op {
        SarImm if is_positive(&bound) => immediate(inst, ShrImm, a, inst.imm),
        ShrImm if u32::from(bit_len(&bound)) <= inst.imm => {
            return Some(graph.constant(Word::ZERO));
        }
        SignextendImm if u32::from(bit_len(&bound)) <= 8 * inst.imm + 7 => return Some(a),
        ByteImm if inst.imm == 31 => {
            let mask = graph.small(0xff);
            (inst.op, inst.args, inst.imm) = (Op::Word(And), [Some(a), Some(mask), None], 0);
        }
        ByteImm if u32::from(bit_len(&bound)) <= 248 - 8 * inst.imm => {
            return Some(graph.constant(Word::ZERO));
        }
        _ => {}
    }
    None
}

fn pure(
    graph: &mut Graph,
    inst: &mut Inst,
    helper: Helper,
    a: Value,
    b: Option<Value>,
) -> Option<Value> {
    use module::Op::*;
    let indexed = match helper {
        Helper::Shl => Some((ShlImm, 256)),
        Helper::Shr => Some((ShrImm, 256)),
        Helper::Sar => Some((SarImm, 256)),
        Helper::Byte => Some((ByteImm, 32)),
        Helper::Signextend => Some((SignextendImm, 31)),
        _ => None,
    };
    if let (Some((op, limit)), Some(amount)) = (indexed, graph.word(a)) {
        return by_constant(graph, inst, op, amount, limit, b?);
    }
    let b = b?;
    if let (Helper::Sdiv | Helper::Smod, true) =
        (helper, is_positive(&graph.max(a)) && is_positive(&graph.max(b)))
    {
        let unsigned = if helper == Helper::Sdiv { Helper::Div } else { Helper::Rem };
        inst.op = Op::Word(Pure(unsigned));
        return None;
    }
    let divisor = graph.word(b)?;
    match helper {
        Helper::Div | Helper::Rem | Helper::Sdiv | Helper::Smod if divisor.is_zero() => {
            Some(graph.constant(Word::ZERO))
        }
        Helper::Div | Helper::Sdiv if divisor == Word::ONE => Some(a),
        Helper::Div if fold::compare(Cond::Ugt, &divisor, &graph.max(a)) => {
            Some(graph.constant(Word::ZERO))
        }
        Helper::Rem if fold::compare(Cond::Ugt, &divisor, &graph.max(a)) => Some(a),
        Helper::Div if is_power_of_two(&divisor) => {
            immediate(inst, ShrImm, a, u32::from(bit_len(&divisor)) - 1);
            None
        }
        Helper::Rem if is_power_of_two(&divisor) => {
            let mask = graph.constant(ones(bit_len(&divisor) - 1));
            (inst.op, inst.args) = (Op::Word(And), [Some(a), Some(mask), None]);
            None
        }
        _ => None,
    }
}

/// A shift by a constant amount, or BYTE and SIGNEXTEND with a constant index.
fn by_constant(
    graph: &mut Graph,
    inst: &mut Inst,
    op: module::Op,
    amount: Word,
    limit: u64,
    b: Value,
) -> Option<Value> {
    use module::Op::*;
    match (op, amount.as_u64().filter(|&amount| amount < limit)) {
        (SarImm, None) => immediate(inst, op, b, 255),
        (SignextendImm, None) => return Some(b),
        (_, None) => return Some(graph.constant(Word::ZERO)),
        (ShlImm | ShrImm | SarImm, Some(0)) => return Some(b),
        (_, Some(amount)) => immediate(inst, op, b, amount as u32),
    }
    None
}

fn is_power_of_two(word: &Word) -> bool {
    to_u256(*word).is_power_of_two()
}
