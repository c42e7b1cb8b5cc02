//! Regions: which blocks are compiled together.
//!
//! **Owns** the growth of a [`Region`] from its head along the hottest edges. Its nodes are copies of
//! basic blocks: one for each stack height (relative to the head) and *context*, the jump destinations
//! that lie on the stack. So the blocks of an internal function are copied for each call in a region,
//! and its return is a jump to a constant.
//!
//! **Callers guarantee** nothing of the counts: any function will do.
//!
//! **Never** looks at instructions: it works on summaries. The work for a region is bounded by
//! [`NODES_MAX`].

use super::{
    analysis::Analysis,
    summary::{Abs, Flow},
};
use crate::code::Ending;
use kiln_abi::Pc;
use std::collections::{BinaryHeap, HashMap};

/// Blocks of a region, copies counted.
pub const NODES_MAX: usize = 64;
/// Bytecode instructions of a region, copies counted.
pub const INSTRUCTIONS_MAX: u32 = 600;
/// Words below and above the stack top at entry that a region may touch, each.
pub const SPAN_MAX: i16 = 128;
/// Copies of one block.
const COPIES_MAX: usize = 8;
/// Bytecode instructions of a loop's head that is copied to where the loop goes back to it.
const ROTATED_MAX: u32 = 24;
/// An edge is followed if it runs at least once in so many executions of the head.
const COLD_RATIO: u64 = 32;

/// A block of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its index in the blocks of the program.
    pub(super) block: usize,
    /// Words on the stack where it begins, relative to the head.
    pub(super) height: i16,
    /// The positions, relative to the head, that hold jump destinations; ascending.
    pub(super) context: Vec<(i16, Pc)>,
    /// Nodes that its jump goes to. For a computed jump these are predictions.
    pub(super) taken: Vec<(Pc, usize)>,
    /// The node that follows it in the code.
    pub(super) next: Option<usize>,
    weight: u64,
    /// The node from which it was found; the head's is itself.
    parent: usize,
}

/// Blocks that are compiled together, entered at the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub(super) nodes: Vec<Node>,
    pub(super) need: i16,
    pub(super) grow: i16,
    instructions: u32,
    /// Leaders of hot blocks that did not fit.
    cut: Vec<Pc>,
    head: Pc,
}

impl Region {
    /// The region that grows from a head, or none if there is nothing to gain: no block begins there,
    /// its first instruction is the interpreter's, or it alone is over the limits. `count` says how
    /// often the block with this leader ran.
    pub fn grow(analysis: &Analysis<'_>, head: Pc, count: &dyn Fn(Pc) -> u64) -> Option<Self> {
        let block = analysis.block_at(head)?;
        let weight = count(head).max(1);
        let mut growth = Growth {
            analysis,
            count,
            region: Self {
                nodes: Vec::new(),
                need: 0,
                grow: 0,
                instructions: 0,
                cut: Vec::new(),
                head,
            },
            keys: HashMap::new(),
            copies: HashMap::new(),
            edges: BinaryHeap::new(),
            cold_below: weight.div_ceil(COLD_RATIO),
            order: 0,
        };
        let key = Key { block, height: 0, context: Vec::new(), continues: None };
        growth.node(key, weight, 0)?;
        growth.run();
        Some(growth.region)
    }

    /// Where it is entered.
    pub fn head(&self) -> Pc {
        self.head
    }

    /// The leaders of its blocks; one that was copied, several times.
    pub fn leaders<'a>(&'a self, analysis: &'a Analysis<'_>) -> impl Iterator<Item = Pc> + 'a {
        self.nodes.iter().map(|node| analysis.block(node.block).start)
    }

    /// Its blocks, copies counted.
    pub fn blocks(&self) -> usize {
        self.nodes.len()
    }

    /// Bytecode instructions, copies counted.
    pub fn instructions(&self) -> u32 {
        self.instructions
    }

    /// The leaders of hot blocks that were left out because of the limits: where it is left for other
    /// hot code.
    pub fn cut(&self) -> &[Pc] {
        &self.cut
    }

    /// Whether hot blocks were left out because of the limits.
    pub fn is_truncated(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Whether it can come back to its head, so that it is worth more than its blocks alone.
    pub fn loops(&self) -> bool {
        let back = |(from, node): (usize, &Node)| {
            node.taken.iter().map(|&(_, to)| to).chain(node.next).any(|to| to <= from)
        };
        self.nodes.iter().enumerate().any(back)
    }
}

/// An edge whose end was not looked at yet. The heaviest goes first, of these the one found first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    weight: u64,
    order: core::cmp::Reverse<u32>,
    from: usize,
    is_next: bool,
    to: Pc,
}

/// What tells nodes apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    block: usize,
    height: i16,
    context: Vec<(i16, Pc)>,
    /// The node that a copied head of a loop continues.
    continues: Option<usize>,
}

struct Growth<'a> {
    analysis: &'a Analysis<'a>,
    count: &'a dyn Fn(Pc) -> u64,
    region: Region,
    keys: HashMap<Key, usize>,
    copies: HashMap<usize, usize>,
    edges: BinaryHeap<Edge>,
    cold_below: u64,
    order: u32,
}

impl Growth<'_> {
    fn run(&mut self) {
        while let Some(Edge { weight, from, is_next, to, .. }) = self.edges.pop() {
            let Some(block) = self.analysis.block_at(to) else { continue };
            let (height, context) = self.exit_state(from);
            let key = Key { block, height, context, continues: None };
            let node = match self.keys.get(&key) {
                Some(&node) => Some(self.rotated(from, node, key, weight).unwrap_or(node)),
                None if weight < self.cold_below => None,
                None => self.node(key, weight, from),
            };
            let Some(node) = node else { continue };
            let from = &mut self.region.nodes[from];
            if is_next {
                from.next = Some(node);
            } else {
                from.taken.push((to, node));
            }
        }
    }

    /// A copy of the small head of a loop for a node that always goes back to it, so that a round of the
    /// loop is one block less, charged at once: the test at the head becomes one at the end.
    fn rotated(&mut self, from: usize, head: usize, mut key: Key, weight: u64) -> Option<usize> {
        let analysis = self.analysis;
        let flow = |node: usize| analysis.summaries.get(self.region.nodes[node].block).flow;
        let always = match flow(from) {
            Flow::Next => true,
            Flow::Jump(word) => {
                matches!(self.resolve(&self.region.nodes[from], word), Abs::Dest(_))
            }
            _ => false,
        };
        let is_small = analysis.block(key.block).instructions <= ROTATED_MAX;
        if !always || !is_small || !matches!(flow(head), Flow::Branch(_)) {
            return None;
        }
        let parents = |node: &usize| Some(self.region.nodes[*node].parent).filter(|to| to != node);
        if !core::iter::successors(Some(from), parents).any(|ancestor| ancestor == head) {
            return None;
        }
        key.continues = Some(from);
        let cut = self.region.cut.len();
        let node = self.node(key, weight, from);
        // The head itself is there.
        self.region.cut.truncate(cut);
        node
    }

    /// Height and context behind a node.
    fn exit_state(&self, node: usize) -> (i16, Vec<(i16, Pc)>) {
        let node = &self.region.nodes[node];
        let summary = self.analysis.summaries.get(node.block);
        let height = node.height + summary.height;
        let words = self.analysis.summaries.words(node.block);
        let stays = |&(position, _): &(i16, Pc)| {
            let own = position - node.height;
            position < height && words.binary_search_by_key(&own, |&(at, _)| at).is_err()
        };
        let mut context: Vec<_> = node.context.iter().copied().filter(stays).collect();
        for &(position, word) in words {
            if let Abs::Dest(pc) = self.resolve(node, word) {
                context.push((position + node.height, pc));
            }
        }
        context.sort_unstable();
        (height, context)
    }

    /// A word of the block's summary, where the context knows it.
    fn resolve(&self, node: &Node, word: Abs) -> Abs {
        let (Abs::In(position) | Abs::Masked(position)) = word else { return word };
        let position = position + node.height;
        match node.context.binary_search_by_key(&position, |&(position, _)| position) {
            Ok(at) => Abs::Dest(node.context[at].1),
            Err(_) => word,
        }
    }

    /// Adds a node, unless it is of no use or over the limits.
    fn node(&mut self, key: Key, weight: u64, parent: usize) -> Option<usize> {
        let Key { block, height, .. } = key;
        let analysis = self.analysis;
        let (code, summary) = (analysis.block(block), analysis.summaries.get(block));
        let interpreted =
            code.instructions == 1 && matches!(code.ending, Ending::Suspend | Ending::End);
        if interpreted || summary.never_runs() {
            return None;
        }
        let need = self.region.need.max(summary.need - height);
        let grow = self.region.grow.max(summary.grow + height);
        let instructions = self.region.instructions.saturating_add(code.instructions);
        let nodes_max = if analysis.perturb.tiny_regions { 1 } else { NODES_MAX };
        let copies = self.copies.entry(block).or_default();
        if need > SPAN_MAX
            || grow > SPAN_MAX
            || instructions > INSTRUCTIONS_MAX
            || self.region.nodes.len() == nodes_max
            || *copies == COPIES_MAX
        {
            if !self.region.cut.contains(&code.start) {
                self.region.cut.push(code.start);
            }
            return None;
        }
        *copies += 1;
        (self.region.need, self.region.grow) = (need, grow);
        self.region.instructions = instructions;
        let id = self.region.nodes.len();
        let context = key.context.clone();
        self.keys.insert(key, id);
        let (taken, next) = (Vec::new(), None);
        self.region.nodes.push(Node { block, height, context, taken, next, weight, parent });
        self.edges_of(id);
        Some(id)
    }

    fn edges_of(&mut self, id: usize) {
        let node = &self.region.nodes[id];
        let flow = self.analysis.summaries.get(node.block).flow;
        let end = self.analysis.block(node.block).end;
        let mut taken = Vec::new();
        if let Flow::Jump(word) | Flow::Branch(word) = flow {
            match self.resolve(node, word) {
                Abs::Dest(pc) => taken.push(pc),
                _ => {
                    // JUMPI to a word that is not constant is the interpreter's.
                    if matches!(flow, Flow::Jump(_)) {
                        taken.extend(self.analysis.jumps.targets(node.block).unwrap_or(&[]));
                    }
                }
            }
        }
        let goes_on = matches!(flow, Flow::Next | Flow::Branch(_));
        let (node_weight, next) = (node.weight, goes_on.then_some((true, end)));
        for (is_next, to) in taken.into_iter().map(|pc| (false, pc)).chain(next) {
            let weight = node_weight.min((self.count)(to));
            self.order += 1;
            let order = core::cmp::Reverse(self.order);
            self.edges.push(Edge { weight, order, from: id, is_next, to });
        }
    }
}
