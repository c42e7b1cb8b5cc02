//! What is thrown away, and why: pure functions over plain records.
//!
//! **Owns** the worth of resident code: how often it was used lately, for each byte it takes. **Callers
//! guarantee** that they age every score once a sweep ([`age`]). **Never** looks at a clock, a lock or a
//! program.
//!
//! Code that comes is weighed against code that is there. What would be worth less than all of it is
//! refused, so that a stream of codes that does not fit leaves alone what is used more often than the
//! stream comes round (as in TinyLFU: Einziger, Friedman and Manes, 2017).

use std::cmp::Ordering;

/// The options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SweepConfig {
    /// Bytes that may be resident.
    pub(crate) bytes_max: usize,
    /// What was not used for longer goes, in milliseconds. 0: nothing goes for that.
    pub(crate) idle_ms_max: u32,
    /// Codes without a program that are remembered.
    pub(crate) slots_max: usize,
}

/// Something resident, or about to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Bytes it takes.
    pub(crate) bytes: usize,
    /// Uses, aged.
    pub(crate) score: u32,
    /// Since its last use, in milliseconds.
    pub(crate) idle_ms: u64,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was not used for too long.
    Idle,
    /// It is worth less than what takes its place.
    Budget,
}

/// What has to go for something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// These, by index; none if there is room already.
    Without(Vec<usize>),
    /// The new one would be worth less than what would have to go.
    Refused,
}

/// Where evicting stops once it has begun: below the budget by an eighth, so that it does not begin
/// again with the next program.
fn low_water(max: usize) -> usize {
    max - max / 8
}

/// A score one sweep later, with the uses since.
pub(crate) fn age(score: u32, uses: u32) -> u32 {
    (score / 2).saturating_add(uses)
}

impl Resident {
    /// Compares by worth: by score for each byte.
    fn cmp_worth(&self, other: &Self) -> Ordering {
        // Nothing takes no bytes at all.
        let (bytes, other_bytes) = (self.bytes.max(1) as u128, other.bytes.max(1) as u128);
        (self.score as u128 * other_bytes).cmp(&(other.score as u128 * bytes))
    }

    /// Whether it is worth less than half as much. What is nearly as good stays: to replace it costs a
    /// compilation, and soon another one, because it will come again.
    fn is_much_worse(&self, other: &Self) -> bool {
        let twice = Self { score: self.score.saturating_mul(2), ..*self };
        twice.cmp_worth(other) == Ordering::Less
    }

    /// Compares by what goes first: what is worth less, and of equals what is idle for longer.
    fn cmp_eviction(&self, other: &Self) -> Ordering {
        self.cmp_worth(other).then(other.idle_ms.cmp(&self.idle_ms))
    }
}

/// Wide enough for any sum.
fn total<'a>(residents: impl IntoIterator<Item = &'a Resident>) -> u128 {
    residents.into_iter().map(|resident| resident.bytes as u128).sum()
}

/// What goes at a sweep, by index: what is idle, and if the rest is over the budget, what is worth
/// least.
pub(crate) fn evictions(residents: &[Resident], config: &SweepConfig) -> Vec<(usize, Cause)> {
    let idle_ms_max = config.idle_ms_max as u64;
    let mut gone = Vec::new();
    let mut left = Vec::new();
    for (index, resident) in residents.iter().enumerate() {
        if idle_ms_max != 0 && resident.idle_ms > idle_ms_max {
            gone.push((index, Cause::Idle));
        } else {
            left.push(index);
        }
    }
    let mut bytes = total(left.iter().map(|&index| &residents[index]));
    if bytes > config.bytes_max as u128 {
        left.sort_by(|&a, &b| residents[a].cmp_eviction(&residents[b]));
        for index in left {
            if bytes <= low_water(config.bytes_max) as u128 {
                break;
            }
            bytes -= residents[index].bytes as u128;
            gone.push((index, Cause::Budget));
        }
    }
    gone
}

/// What has to go so that `new` fits, if that is worth more than each of them.
pub(crate) fn make_room(residents: &[Resident], new: &Resident, bytes_max: usize) -> Room {
    let mut bytes = total(residents);
    let fits = |bytes: u128, max: usize| bytes + new.bytes as u128 <= max as u128;
    if fits(bytes, bytes_max) {
        return Room::Without(Vec::new());
    }
    let mut order: Vec<usize> = (0..residents.len()).collect();
    order.sort_by(|&a, &b| residents[a].cmp_eviction(&residents[b]));
    let mut gone = Vec::new();
    for index in order {
        let resident = &residents[index];
        let worse = resident.is_much_worse(new);
        if !worse || fits(bytes, low_water(bytes_max)) {
            break;
        }
        bytes -= resident.bytes as u128;
        gone.push(index);
    }
    if fits(bytes, bytes_max) { Room::Without(gone) } else { Room::Refused }
}

/// Which codes without a program are forgotten, by index into their idle times in milliseconds: those
/// idle for longest, if there are too many.
pub(crate) fn forgotten(idle_ms: &[u64], slots_max: usize) -> Vec<usize> {
    if idle_ms.len() <= slots_max {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..idle_ms.len()).collect();
    let count = idle_ms.len() - low_water(slots_max);
    // Not a whole sort: there may be many.
    if count < order.len() {
        order.select_nth_unstable_by(count, |&a, &b| idle_ms[b].cmp(&idle_ms[a]));
        order.truncate(count);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SweepConfig = SweepConfig { bytes_max: 800, idle_ms_max: 1000, slots_max: 8 };

    fn resident(bytes: usize, score: u32, idle_ms: u64) -> Resident {
        Resident { bytes, score, idle_ms }
    }

    #[test]
    fn what_is_idle_goes_whatever_its_score() {
        let residents = [resident(1, 9, 1000), resident(1, 9, 1001), resident(1, 0, 0)];
        assert_eq!(evictions(&residents, &CONFIG), [(1, Cause::Idle)]);
        let never = SweepConfig { idle_ms_max: 0, ..CONFIG };
        assert_eq!(evictions(&residents, &never), []);
    }

    #[test]
    fn over_budget_the_least_use_for_each_byte_goes_down_to_the_low_water_mark() {
        let residents = [
            resident(400, 40, 0),
            resident(100, 5, 0),
            resident(200, 10, 500),
            resident(50, 50, 999),
            resident(100, 30, 0),
        ];
        // 850 bytes; 0.05 a byte twice, of which one is idle for longer; that leaves 650.
        assert_eq!(evictions(&residents, &CONFIG), [(2, Cause::Budget)]);
        let tight = SweepConfig { bytes_max: 500, ..CONFIG };
        let expected = [(2, Cause::Budget), (1, Cause::Budget), (0, Cause::Budget)];
        assert_eq!(evictions(&residents, &tight), expected);
        let roomy = SweepConfig { bytes_max: 850, ..CONFIG };
        assert_eq!(evictions(&residents, &roomy), []);
    }

    #[test]
    fn what_comes_takes_the_place_of_what_is_worth_less_only() {
        let residents = [resident(400, 4, 0), resident(400, 40, 0)];
        let room = |bytes, score| make_room(&residents, &resident(bytes, score, 0), 800);
        assert_eq!(room(0, 0), Room::Without(vec![]));
        assert_eq!(room(100, 3), Room::Without(vec![0]));
        assert_eq!(room(100, 2), Room::Refused, "no more than twice as good");
        assert_eq!(room(500, 100), Room::Refused, "the second would have to go too");
        assert_eq!(room(500, 101), Room::Without(vec![0, 1]));
        assert_eq!(room(801, u32::MAX), Room::Refused);
    }

    #[test]
    fn a_stream_larger_than_the_budget_does_not_thrash() {
        // Forty codes of 100 bytes come round and round, where eight fit; four of them come often.
        let mut scores = [0u32; 40];
        let mut here: Vec<usize> = Vec::new();
        let (mut evicted, mut missed_often) = (0, 0);
        for round in 0..100 {
            let mut uses = [1u32; 40];
            uses[..4].fill(20);
            for code in 0..40 {
                scores[code] = age(scores[code], uses[code]);
                if here.contains(&code) {
                    continue;
                }
                missed_often += (code < 4 && round > 0) as u32;
                let residents: Vec<_> =
                    here.iter().map(|&code| resident(100, scores[code], 0)).collect();
                if let Room::Without(gone) =
                    make_room(&residents, &resident(100, scores[code], 0), 800)
                {
                    evicted += gone.len();
                    let mut index = 0;
                    here.retain(|_| {
                        index += 1;
                        !gone.contains(&(index - 1))
                    });
                    here.push(code);
                }
            }
        }
        assert_eq!(missed_often, 0);
        assert!(evicted <= 16, "{evicted}");
        assert!((0..4).all(|code| here.contains(&code)));
    }

    #[test]
    fn scores_fade_so_that_what_was_hot_gives_way() {
        let faded = (0..10).fold(1000, |score, _| age(score, 0));
        assert_eq!(faded, 0);
        assert_eq!(age(u32::MAX, u32::MAX), u32::MAX);
        assert_eq!(age(7, 2), 5);
        let room = make_room(&[resident(800, faded, 0)], &resident(700, 1, 0), 800);
        assert_eq!(room, Room::Without(vec![0]));
    }

    #[test]
    fn codes_idle_for_longest_are_forgotten() {
        let idle_ms = [5, 90, 10, 80, 1, 2, 3, 70];
        assert!(forgotten(&idle_ms, 8).is_empty());
        let mut gone = forgotten(&[&idle_ms[..], &[60]].concat(), 8);
        gone.sort_unstable();
        assert_eq!(gone, [1, 3], "down to the low-water mark");
        assert_eq!(forgotten(&idle_ms, 0).len(), 8);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let huge = resident(usize::MAX, u32::MAX, u64::MAX);
        let never_idle = SweepConfig { idle_ms_max: 0, ..CONFIG };
        assert_eq!(evictions(&[huge, huge], &never_idle).len(), 2);
        assert_eq!(make_room(&[huge], &huge, usize::MAX), Room::Refused);
        assert_eq!(make_room(&[], &resident(0, 0, 0), 0), Room::Without(vec![]));
    }
}
