//! Modes for tests that make rare transitions frequent: leaving compiled code, exchanging the
//! program of a running frame, dropping it.
//!
//! **Owns** the options, and the counters that decide which transition is due: one set for each
//! [`crate::Tiered`], no clock and no seed, so that a run can be repeated exactly. **Never** changes
//! a result.

use crate::{
    engine::Engine,
    frame::{Order, Safepoints},
    program::Program,
    slot::{Pinned, Slot},
    stats::Counters,
};
use kiln_abi::Pc;
use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};
use thiserror::Error;

/// JUMPDEST, the safepoint of interpreted code.
const JUMPDEST: u8 = 0x5b;

/// Transitions that are forced. None by default.
///
/// A *safepoint* is an entry into compiled code from the frame loop. As text, for [`FromStr`] and
/// [`fmt::Display`]: parts separated by commas, `exit=3,swap=1,evict=7,promote`, or `none`.
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
}

impl Force {
    /// Nothing is forced.
    pub const NONE: Self =
        Self { promote: false, exit_every: None, swap_every: None, evict_every: None };

    /// Whether safepoints are counted.
    pub(crate) const fn counts(&self) -> bool {
        self.exit_every.is_some() || self.swap_every.is_some() || self.evict_every.is_some()
    }

    /// Whether the `nth` program of a code has the block at `pc`.
    pub(crate) fn keeps(&self, nth: u32, pc: Pc) -> bool {
        let Some(every) = self.exit_every else { return true };
        let every = every.get() as u64;
        pc.0 == 0 || (pc.0 as u64 + nth as u64) % (every + 1) != every
    }
}

/// Not the text of a [`Force`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{part}` is none of exit=N, swap=N, evict=N (N from 1 upwards), promote, none")]
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
}

/// The counters of one EVM.
#[derive(Debug)]
pub(crate) struct Forced {
    exit: Cycle,
    swap: Cycle,
    evict: Cycle,
    /// JUMPDESTs that are interpreted where a program was dropped.
    interpreted: Cycle,
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
                next: None,
                exchange: Exchange::Superseded,
            })
        })
    }

    fn order(&mut self, superseded: bool) -> Order {
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
            Order::Enter
        }
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
        let order = self.forced.order(program.is_superseded());
        if order == Order::Interpret {
            self.stats.forced_exits.add(1);
        }
        order
    }

    fn exchange(&mut self, slot: &Arc<Slot>) -> Pinned {
        match self.forced.exchange {
            Exchange::Superseded => slot.pin(),
            Exchange::Swap => Pinned::from_inner(self.engine.recompile(slot)),
            Exchange::Evict => {
                self.engine.evict(slot);
                self.stats.forced_evictions.add(1);
                Pinned::from_inner(None)
            }
        }
    }

    fn resume(&mut self, slot: &Arc<Slot>, opcode: u8) -> Option<Arc<Program>> {
        if opcode != JUMPDEST || !self.forced.interpreted.tick() {
            return None;
        }
        slot.program().or_else(|| self.engine.recompile(slot))
    }

    fn resumes(&self) -> bool {
        self.forced.interpreted.every.is_some()
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
        for text in ["none", "promote", "exit=1", "exit=3,swap=1,evict=7,promote"] {
            assert_eq!(force(text).to_string(), text);
        }
        for text in ["", "exit", "exit=0", "exit=-1", "exit=x", "leave=1", "exit=1,", "none,none"] {
            assert!(text.parse::<Force>().is_err(), "{text}");
        }
    }

    fn orders(text: &str, count: usize) -> Vec<Order> {
        let mut forced = Forced::new(&force(text)).unwrap();
        (0..count).map(|_| forced.order(false)).collect()
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
