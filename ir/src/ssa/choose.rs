//! Which regions a program gets, from how often its blocks ran.
//!
//! **Owns** the choice of heads: for each hot block that no region holds yet, from the hottest down, the
//! outermost loop around it that fits whole, callers' loops included; else the function it lies in; else
//! the block itself. **Callers guarantee** nothing of the counts.
//!
//! **Never** decides what hot is, or whether a region is worth its compilation. The work is bounded: a
//! few regions are grown for each hot block, and loops larger than a region are not followed.

use super::{
    analysis::Analysis,
    region::{INSTRUCTIONS_MAX, NODES_MAX, Region},
    summary::{Abs, Flow},
};
use kiln_abi::Pc;
use std::collections::HashSet;

/// Blocks of a loop of which more are not looked at: it fits no region, copies or not.
const LOOP_MAX: usize = 4 * NODES_MAX;
/// Callers that are climbed from a block.
const CALLERS_MAX: usize = 4;
/// A head runs at least once in so many executions of the block it is chosen for.
const HEAD_RATIO: u64 = 1024;
/// Heads that are tried for a block.
const HEADS_MAX: usize = 8;
/// Blocks for which a region is looked for, for each region there may be.
const TRIES_RATIO: usize = 4;
/// Blocks and edges that are looked at for loops, for each block of the program: loops lie in loops.
const LOOP_WORK_RATIO: usize = 64;
/// Bytecode instructions of all regions together for each one of a hot block: regions overlap, and internal
/// functions are copied. Real code, all of it hot, has ten at most.
const COPIES_RATIO: usize = 16;
/// And how many there may be besides.
const COPIES_FREE: usize = 4 * INSTRUCTIONS_MAX as usize;

/// What to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Executions from which a block is hot.
    pub hot: u64,
    /// Regions at most.
    pub regions_max: usize,
}

/// The regions of a program, the hottest first. `count` says how often the block with this leader ran.
pub fn choose(analysis: &Analysis<'_>, count: &dyn Fn(Pc) -> u64, choice: Choice) -> Vec<Region> {
    let counts: Vec<u64> = analysis.blocks.blocks.iter().map(|block| count(block.start)).collect();
    let mut hot: Vec<usize> =
        (0..counts.len()).filter(|&b| counts[b] >= choice.hot.max(1)).collect();
    // Of those that ran as often, the first in the code.
    hot.sort_by_key(|&block| (core::cmp::Reverse(counts[block]), block));
    if hot.is_empty() {
        return Vec::new();
    }
    let chooser = Chooser { analysis, count, graph: Graph::new(analysis, &counts), counts };
    let instructions = |&block: &usize| analysis.block(block).instructions as usize;
    let mut chosen = Chosen {
        held: HashSet::new(),
        regions: Vec::new(),
        instructions_left: COPIES_RATIO * hot.iter().map(instructions).sum::<usize>() + COPIES_FREE,
    };
    let mut tries_left = choice.regions_max.saturating_mul(TRIES_RATIO);
    for block in hot {
        if chosen.is_full(choice) || tries_left == 0 {
            break;
        }
        if !chosen.held.contains(&analysis.block(block).start) {
            tries_left -= 1;
            chosen.add(analysis, chooser.region_of(block));
        }
    }
    chosen.continue_cut(&chooser, choice, tries_left);
    chosen.regions
}

struct Chosen {
    /// Leaders of blocks of regions.
    held: HashSet<Pc>,
    regions: Vec<Region>,
    /// Bytecode instructions that there may still be.
    instructions_left: usize,
}

impl Chosen {
    fn is_full(&self, choice: Choice) -> bool {
        self.regions.len() >= choice.regions_max || self.instructions_left == 0
    }

    fn add(&mut self, analysis: &Analysis<'_>, region: Option<Region>) {
        let Some(region) = region else { return };
        let left = self.instructions_left.checked_sub(region.instructions() as usize);
        self.instructions_left = left.unwrap_or(0);
        if left.is_none() {
            return;
        }
        self.held.extend(region.leaders(analysis));
        self.regions.push(region);
    }

    /// Where a region is left only because of the limits another one begins, also at blocks that lie
    /// within others.
    fn continue_cut(&mut self, chooser: &Chooser<'_>, choice: Choice, mut tries_left: usize) {
        let mut heads: HashSet<Pc> = self.regions.iter().map(Region::head).collect();
        let mut next = 0;
        while let Some(region) = self.regions.get(next) {
            next += 1;
            for head in region.cut().to_vec() {
                if self.is_full(choice) || tries_left == 0 {
                    return;
                }
                if (chooser.count)(head) >= choice.hot && heads.insert(head) {
                    tries_left -= 1;
                    let region = Region::grow(chooser.analysis, head, chooser.count);
                    self.add(chooser.analysis, region);
                }
            }
        }
    }
}

struct Chooser<'a> {
    analysis: &'a Analysis<'a>,
    count: &'a dyn Fn(Pc) -> u64,
    counts: Vec<u64>,
    graph: Graph,
}

impl Chooser<'_> {
    /// The largest region that holds a block and is whole; else the smallest that is tried.
    fn region_of(&self, block: usize) -> Option<Region> {
        let pc = self.analysis.block(block).start;
        let mut smallest = None;
        for head in self.heads(block) {
            let head = self.analysis.block(head).start;
            let Some(region) = Region::grow(self.analysis, head, self.count) else { continue };
            if !region.leaders(self.analysis).any(|leader| leader == pc) {
                continue;
            }
            if !region.is_truncated() {
                return Some(region);
            }
            smallest = Some(region);
        }
        smallest
    }

    /// Heads of regions around a block, the outermost first, the block itself last.
    fn heads(&self, block: usize) -> Vec<usize> {
        // From the inside out.
        let mut heads = vec![block];
        let mut inner = block;
        for _ in 0..CALLERS_MAX {
            let (loops, root) = (&self.graph.loops_of[inner], self.graph.root_of[inner]);
            heads.extend(loops.iter().copied());
            heads.push(root);
            match self.graph.caller_of[root] {
                Some(caller) if self.is_warm(caller, block) => inner = caller,
                _ => break,
            }
        }
        let mut seen = HashSet::new();
        heads.retain(|&head| seen.insert(head) && self.is_warm(head, block));
        heads.truncate(HEADS_MAX);
        heads.reverse();
        heads
    }

    fn is_warm(&self, head: usize, block: usize) -> bool {
        self.counts[head].saturating_mul(HEAD_RATIO) >= self.counts[block]
    }
}

/// The blocks of each internal function, as edges within it: from a call to the code behind it.
struct Graph {
    /// By block: the heads of the loops around it, the innermost first.
    loops_of: Vec<Vec<usize>>,
    /// By block: the first block of its function.
    root_of: Vec<usize>,
    /// By first block of a function: the block that calls it most often.
    caller_of: Vec<Option<usize>>,
}

/// Where a block goes within its function, and what function it calls.
struct Edges {
    within: Vec<usize>,
    calls: Option<usize>,
}

impl Graph {
    fn new(analysis: &Analysis<'_>, counts: &[u64]) -> Self {
        let edges: Vec<Edges> = (0..counts.len()).map(|block| edges(analysis, block)).collect();
        let mut caller_of: Vec<Option<usize>> = vec![None; counts.len()];
        for (block, edges) in edges.iter().enumerate() {
            let Some(function) = edges.calls else { continue };
            let caller = &mut caller_of[function];
            if caller.is_none_or(|other| counts[block] > counts[other]) {
                *caller = Some(block);
            }
        }
        let mut walk = Walk {
            root_of: vec![usize::MAX; counts.len()],
            on_path: vec![false; counts.len()],
            back_edges: Vec::new(),
        };
        let functions = (0..counts.len()).filter(|&block| caller_of[block].is_some());
        for root in core::iter::once(0).chain(functions).chain(0..counts.len()) {
            walk.from(root, &edges);
        }
        let loops_of = loops(&edges, &walk.back_edges, counts);
        Self { loops_of, root_of: walk.root_of, caller_of }
    }
}

fn edges(analysis: &Analysis<'_>, block: usize) -> Edges {
    let at = |pc: Pc| analysis.block_at(pc);
    let (mut within, mut calls) = (Vec::new(), None);
    let flow = analysis.summaries.get(block).flow;
    match flow {
        Flow::Jump(Abs::Dest(to)) => {
            // The return address lies above all others.
            let words = analysis.summaries.words(block);
            let back = words.iter().rev().find_map(|(_, word)| match word {
                Abs::Dest(pc) => at(*pc),
                _ => None,
            });
            calls = back.and_then(|_| at(to));
            within.extend(back.or_else(|| at(to)));
        }
        Flow::Branch(Abs::Dest(to)) => within.extend(at(to)),
        _ => {}
    }
    if matches!(flow, Flow::Next | Flow::Branch(_) | Flow::Suspend) {
        within.extend(at(analysis.block(block).end));
    }
    Edges { within, calls }
}

/// A walk in depth through all functions.
struct Walk {
    root_of: Vec<usize>,
    on_path: Vec<bool>,
    back_edges: Vec<(usize, usize)>,
}

impl Walk {
    fn from(&mut self, root: usize, edges: &[Edges]) {
        if self.root_of.get(root).is_none_or(|&known| known != usize::MAX) {
            return;
        }
        let mut path = vec![(root, 0)];
        (self.root_of[root], self.on_path[root]) = (root, true);
        while let Some((block, next)) = path.last_mut() {
            let Some(&to) = edges[*block].within.get(*next) else {
                self.on_path[*block] = false;
                path.pop();
                continue;
            };
            *next += 1;
            if self.on_path[to] {
                self.back_edges.push((*block, to));
            } else if self.root_of[to] == usize::MAX {
                (self.root_of[to], self.on_path[to]) = (root, true);
                path.push((to, 0));
            }
        }
    }
}

/// By block the heads of the loops around it, the smallest loop first.
fn loops(edges: &[Edges], back_edges: &[(usize, usize)], counts: &[u64]) -> Vec<Vec<usize>> {
    let mut preds = vec![Vec::new(); edges.len()];
    for (from, edges) in edges.iter().enumerate() {
        edges.within.iter().for_each(|&to| preds[to].push(from));
    }
    let mut ends: Vec<(usize, usize)> =
        back_edges.iter().map(|&(from, head)| (head, from)).collect();
    ends.sort_unstable();
    let mut work_left = LOOP_WORK_RATIO * edges.len();
    let mut bodies: Vec<(usize, HashSet<usize>)> = Vec::new();
    for ends in ends.chunk_by(|a, b| a.0 == b.0) {
        let head = ends[0].0;
        // Loops that never ran are no head of anything.
        if counts[head] == 0 {
            continue;
        }
        if work_left == 0 {
            break;
        }
        let mut body = HashSet::from([head]);
        let mut queue: Vec<usize> = ends.iter().map(|&(_, from)| from).collect();
        while let Some(block) = queue.pop() {
            if body.len() > LOOP_MAX {
                break;
            }
            if body.insert(block) {
                work_left = work_left.saturating_sub(1 + preds[block].len());
                queue.extend(&preds[block]);
            }
        }
        if body.len() <= LOOP_MAX {
            bodies.push((head, body));
        }
    }
    bodies.sort_by_key(|(head, body)| (body.len(), *head));
    let mut loops_of = vec![Vec::new(); edges.len()];
    for (head, body) in &bodies {
        body.iter().for_each(|&block| loops_of[block].push(*head));
    }
    loops_of
}
