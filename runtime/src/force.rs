//! Modes for tests that make rare transitions frequent: leaving compiled code, exchanging the
//! program of a running frame, dropping it.
//!
//! **Owns** the options, and the counters that decide which transition is due: one set for each
//! [`crate::Tiered`], no clock, and no chance but that of a given seed, so that a run can be repeated
//! exactly. **Never** changes a result.

mod mix;

use crate::{
    engine::Engine,
    frame::{Order, Safepoints},
    program::Program,
    slot::{Pinned, Slot},
    stats::Counters,
};
use kiln_abi::Pc;
use mix::{Drawn, Mix};
use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};
use thiserror::Error;

/// JUMPDEST, the safepoint of interpreted code.
const JUMPDEST: u8 = 0x5b;

/// Transitions that are forced. None by default.
///
/// A *safepoint* is an entry into compiled code from the frame loop. As text, for [`FromStr`] and
/// [`fmt::Display`]: parts separated by commas, `exit=3,swap=1,evict=7,promote,seed=9`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Force {
    /// Compile whole codes at their first frame, whatever the other options say.
    pub promote: bool,
    /// At every n-th safepoint, interpret a block instead. And leave about one block of `n + 1` out
    /// of every program, other ones each time a code is compiled, so that compiled code is left in
    /// front of them.
    pub exit_every: Option<NonZeroU32>,
    /// At every n-th safepoint, compile the code again, publish the new program, and go on in it.
    pub swap_every: Option<NonZeroU32>,
    /// At every n-th safepoint, drop the program and go on in the interpreter: to the n-th JUMPDEST,
    /// if the frame gets that far, where the code is compiled again.
    pub evict_every: Option<NonZeroU32>,
    /// At every safepoint where nothing else is due, what happens is drawn from this seed: the code is
    /// entered, a block is interpreted, the program is exchanged, dropped, or promoted to optimised regions.
    /// And some blocks are left out of every program.
    pub seed: Option<u64>,
}

impl Force {
    /// Nothing is forced.
    pub const NONE: Self =
        Self { promote: false, exit_every: None, swap_every: None, evict_every: None, seed: None };

    /// Whether safepoints are counted.
    pub(crate) const fn counts(&self) -> bool {
        self.exit_every.is_some()
            || self.swap_every.is_some()
            || self.evict_every.is_some()
            || self.seed.is_some()
    }

    /// Whether the `nth` program of a code has the block at `pc`.
    pub(crate) fn keeps(&self, nth: u32, pc: Pc) -> bool {
        if pc.0 == 0 || self.seed.is_some_and(|seed| mix::leaves_out(seed, nth, pc)) {
            return pc.0 == 0;
        }
        let Some(every) = self.exit_every else { return true };
        let every = every.get() as u64;
        (pc.0 as u64 + nth as u64) % (every + 1) != every
    }
}

/// Not the text of a [`Force`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{part}` is none of exit=N, swap=N, evict=N (N from 1 upwards), seed=N, promote, none")]
pub struct ParseForceError {
    part: String,
}

impl FromStr for Force {
    type Err = ParseForceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut force = Self::NONE;
        if text == "none" {
            return Ok(force);
        }
        for part in text.split(',') {
            let error = || ParseForceError { part: part.to_owned() };
            if part == "promote" {
                force.promote = true;
                continue;
            }
            let (name, count) = part.split_once('=').ok_or_else(error)?;
            if name == "seed" {
                force.seed = Some(count.parse().map_err(|_| error())?);
                continue;
            }
            let count = count.parse::<NonZeroU32>().map_err(|_| error())?;
            *match name {
                "exit" => &mut force.exit_every,
                "swap" => &mut force.swap_every,
                "evict" => &mut force.evict_every,
                _ => return Err(error()),
            } = Some(count);
        }
        Ok(force)
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted =
            [("exit", self.exit_every), ("swap", self.swap_every), ("evict", self.evict_every)];
        let mut parts: Vec<String> = counted
            .into_iter()
            .filter_map(|(name, every)| every.map(|every| format!("{name}={every}")))
            .collect();
        if self.promote {
            parts.push("promote".to_owned());
        }
        parts.extend(self.seed.map(|seed| format!("seed={seed}")));
        if parts.is_empty() { f.write_str("none") } else { f.write_str(&parts.join(",")) }
    }
}

/// Counts up to a number, over and over.
#[derive(Debug)]
struct Cycle {
    every: Option<NonZeroU32>,
    count: u32,
}

impl Cycle {
    const fn new(every: Option<NonZeroU32>) -> Self {
        Self { every, count: 0 }
    }

    /// Counts one; whether it was the last of a round.
    fn tick(&mut self) -> bool {
        let Some(every) = self.every else { return false };
        self.count = (self.count + 1) % every.get();
        self.count == 0
    }
}

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// The program is not its slot's any more.
    Superseded,
    Swap,
    Evict,
    Promote,
}

/// The counters of one EVM.
#[derive(Debug)]
pub(crate) struct Forced {
    exit: Cycle,
    swap: Cycle,
    evict: Cycle,
    /// JUMPDESTs that are interpreted where a program was dropped.
    interpreted: Cycle,
    /// Draws what no counter decides.
    mix: Option<Mix>,
    /// What happens at the next safepoint, which is not counted: at the last one something was
    /// forced.
    next: Option<Order>,
    exchange: Exchange,
}

impl Forced {
    /// The counters, if there is something to count.
    pub(crate) fn new(force: &Force) -> Option<Box<Self>> {
        force.counts().then(|| {
            Box::new(Self {
                exit: Cycle::new(force.exit_every),
                swap: Cycle::new(force.swap_every),
                evict: Cycle::new(force.evict_every),
                interpreted: Cycle::new(force.evict_every),
                mix: force.seed.map(Mix::new),
                next: None,
                exchange: Exchange::Superseded,
            })
        })
    }

    /// `code_len` is of the program's code: so that a seed decides otherwise for another one.
    fn order(&mut self, superseded: bool, code_len: usize) -> Order {
        if superseded {
            self.exchange = Exchange::Superseded;
            return Order::Exchange;
        }
        if let Some(order) = self.next.take() {
            self.next = (order == Order::Interpret).then_some(Order::Enter);
            return order;
        }
        let (exit, swap, evict) = (self.exit.tick(), self.swap.tick(), self.evict.tick());
        if evict || swap {
            self.exchange = if evict { Exchange::Evict } else { Exchange::Swap };
            self.next = Some(if exit { Order::Interpret } else { Order::Enter });
            Order::Exchange
        } else if exit {
            self.next = Some(Order::Enter);
            Order::Interpret
        } else {
            self.drawn(code_len)
        }
    }

    /// What the seed has for this safepoint.
    fn drawn(&mut self, code_len: usize) -> Order {
        let drawn = self.mix.as_mut().map_or(Drawn::Enter, |mix| mix.at_safepoint(code_len));
        let exchange = match drawn {
            Drawn::Enter => return Order::Enter,
            Drawn::Interpret => {
                self.next = Some(Order::Enter);
                return Order::Interpret;
            }
            Drawn::Swap => Exchange::Swap,
            Drawn::Evict => Exchange::Evict,
            Drawn::Promote => Exchange::Promote,
        };
        self.exchange = exchange;
        self.next = Some(Order::Enter);
        Order::Exchange
    }
}

/// The safepoints of a frame run in which something is forced.
pub(crate) struct ForcedSafepoints<'a> {
    pub(crate) forced: &'a mut Forced,
    pub(crate) engine: &'a Engine,
    pub(crate) stats: &'a Counters,
}

impl Safepoints for ForcedSafepoints<'_> {
    fn order(&mut self, program: &Program) -> Order {
        let order = self.forced.order(program.is_superseded(), program.bytecode().len());
        if order == Order::Interpret {
            self.stats.forced_exits.add(1);
        }
        order
    }

    fn exchange(&mut self, slot: &Arc<Slot>) -> Pinned {
        if self.forced.mix.is_some() && slot.published() >= mix::PROGRAMS_MAX {
            return slot.pin();
        }
        match self.forced.exchange {
            Exchange::Superseded => slot.pin(),
            Exchange::Swap => Pinned::from_inner(self.engine.recompile(slot)),
            Exchange::Promote => Pinned::from_inner(self.engine.optimise(slot)),
            Exchange::Evict => {
                self.engine.evict(slot);
                self.stats.forced_evictions.add(1);
                Pinned::from_inner(None)
            }
        }
    }

    fn resume(&mut self, slot: &Arc<Slot>, opcode: u8) -> Option<Arc<Program>> {
        let Forced { interpreted, mix, .. } = &mut *self.forced;
        if opcode != JUMPDEST
            || !(interpreted.tick() || mix.as_mut().is_some_and(Mix::resumes_here))
        {
            return None;
        }
        slot.program().or_else(|| self.engine.recompile(slot))
    }

    fn resumes(&self) -> bool {
        self.forced.interpreted.every.is_some() || self.forced.mix.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn force(text: &str) -> Force {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips() {
        for text in ["none", "promote", "exit=1", "exit=3,swap=1,evict=7,promote,seed=9"] {
            assert_eq!(force(text).to_string(), text);
        }
        for text in [
            "",
            "exit",
            "exit=0",
            "exit=-1",
            "exit=x",
            "leave=1",
            "exit=1,",
            "none,none",
            "seed=-1",
        ] {
            assert!(text.parse::<Force>().is_err(), "{text}");
        }
    }

    fn orders(text: &str, count: usize) -> Vec<Order> {
        let mut forced = Forced::new(&force(text)).unwrap();
        (0..count).map(|_| forced.order(false, 0)).collect()
    }

    #[test]
    fn every_nth_safepoint() {
        use Order::{Enter, Exchange, Interpret};
        assert_eq!(orders("exit=1", 4), [Interpret, Enter, Interpret, Enter]);
        assert_eq!(orders("exit=2", 6), [Enter, Interpret, Enter, Enter, Interpret, Enter]);
        assert_eq!(orders("swap=1", 4), [Exchange, Enter, Exchange, Enter]);
        assert_eq!(
            orders("exit=1,evict=2", 7),
            [Interpret, Enter, Exchange, Interpret, Enter, Interpret, Enter]
        );
        assert!(Forced::new(&force("promote")).is_none());
    }

    #[test]
    fn blocks_left_out_change() {
        let force = force("exit=1");
        let kept = |nth| (0..6).map(|pc| force.keeps(nth, Pc(pc))).collect::<Vec<_>>();
        assert_eq!(kept(0), [true, false, true, false, true, false]);
        assert_eq!(kept(1), [true, true, false, true, false, true]);
        assert!((0..6).all(|pc| Force::NONE.keeps(3, Pc(pc))));
    }
}
