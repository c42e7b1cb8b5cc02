//! Layout: from a stencil's shape to the bytes that are copied.
//!
//! **Owns** the choice between long and short encodings. A field that is small is written in one
//! byte: of the displacement (ModRM's `mod`), or of the immediate (opcode 83 for 81). **Callers
//! guarantee** a shape that [`crate::verify`] accepted. **Never** reorders instructions.

use crate::{
    operand::Field,
    stencil::{Symbol, Width},
    verify::{Node, Shape, Site, Target},
    x86::Flow,
};

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One byte.
    Byte,
    /// Four bytes.
    Long,
    /// Eight bytes.
    Wide,
}

/// A field's value written at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Offset in the hot or cold part.
    pub at: u16,
    /// The field.
    pub field: Field,
    /// How it is written.
    pub form: Form,
    /// What is added to it.
    pub add: u8,
}

/// What a 32-bit offset refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refers {
    /// To an offset in the hot part of the same stencil.
    Hot(u16),
    /// To an offset in its cold part.
    Cold(u16),
    /// Elsewhere.
    Symbol(Symbol),
}

/// A 32-bit offset relative to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Offset in the hot or cold part.
    pub at: u16,
    /// What it refers to.
    pub to: Refers,
}

/// The hot or the cold part of a stencil.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Machine code.
    pub bytes: Vec<u8>,
    /// Where fields are written.
    pub patches: Vec<Patch>,
    /// Where offsets are written.
    pub references: Vec<Reference>,
}

impl Shape {
    /// The fields that have a short form, and the most that is added to each.
    pub(crate) fn shortable(&self) -> Vec<(Field, u8)> {
        let reach = |field| {
            let sites = self.nodes.iter().flat_map(|node| {
                node.sites.iter().filter(move |site| site.field == field && shortens(node, site))
            });
            sites.map(|site| site.add).max()
        };
        Field::LONG.into_iter().filter_map(|field| Some((field, reach(field)?))).collect()
    }

    /// The stencil with the given fields in their short form.
    pub(crate) fn assemble(&self, short: &[Field]) -> [Part; 2] {
        let nodes: Vec<Node> = self.nodes.iter().map(|node| shorten(node, short)).collect();
        let near = self.short_branches(&nodes);
        let starts = self.starts(&nodes, &near);
        let mut parts = [Part::default(), Part::default()];
        for (i, node) in nodes.iter().enumerate() {
            let cold = i >= self.hot;
            let place = |to: usize| match to >= self.hot {
                true => Refers::Cold(starts[to]),
                false => Refers::Hot(starts[to]),
            };
            let to = node.target.map(|target| match target {
                Target::Node(to) => place(to),
                Target::End => Refers::Hot(starts[nodes.len()]),
                Target::Symbol(symbol) => Refers::Symbol(symbol),
            });
            emit(&mut parts[cold as usize], node, to, near[i]);
        }
        parts
    }

    /// Which branches reach their target with one byte.
    fn short_branches(&self, nodes: &[Node]) -> Vec<bool> {
        let same_part = |i: usize, to: usize| (i >= self.hot) == (to >= self.hot);
        let mut near: Vec<bool> = nodes
            .iter()
            .enumerate()
            .map(|(i, node)| match node.target {
                Some(Target::Node(to)) => same_part(i, to) && node.insn.flow != Flow::Call,
                Some(Target::End) => i < self.hot,
                _ => false,
            })
            .collect();
        loop {
            let starts = self.starts(nodes, &near);
            let far = (0..nodes.len()).find(|&i| {
                let to = match nodes[i].target {
                    Some(Target::Node(to)) => starts[to],
                    _ => starts[nodes.len()],
                };
                let behind = i32::from(starts[i]) + 2;
                near[i] && i8::try_from(i32::from(to) - behind).is_err()
            });
            match far {
                Some(i) => near[i] = false,
                None => return near,
            }
        }
    }

    /// The offset of each node in its part; then the end of the hot part.
    fn starts(&self, nodes: &[Node], near: &[bool]) -> Vec<u16> {
        let mut starts = Vec::with_capacity(nodes.len() + 1);
        let (mut at, mut hot_end) = (0, 0);
        for (i, node) in nodes.iter().enumerate() {
            if i == self.hot {
                hot_end = at;
                at = 0;
            }
            starts.push(at);
            at += if near[i] { 2 } else { node.bytes.len() as u16 };
        }
        starts.push(if self.hot == nodes.len() { at } else { hot_end });
        starts
    }
}

/// Appends an instruction to its part.
fn emit(part: &mut Part, node: &Node, to: Option<Refers>, near: bool) {
    let start = part.bytes.len();
    if near {
        let (Some(Refers::Hot(to)) | Some(Refers::Cold(to))) = to else {
            unreachable!("only branches within a part are short");
        };
        let opcode = match node.insn.flow {
            Flow::Jcc(condition) => 0x70 | condition,
            _ => 0xeb,
        };
        part.bytes.extend([opcode, (i32::from(to) - start as i32 - 2) as u8]);
        return;
    }
    part.bytes.extend(&node.bytes);
    for site in &node.sites {
        let form = if site.size == 1 { Form::Byte } else { Form::Long };
        let at = (start + site.at) as u16;
        part.patches.push(Patch { at, field: site.field, form, add: site.add });
    }
    if let Some(to) = to {
        part.references.push(Reference { at: (part.bytes.len() - 4) as u16, to });
    }
    match node.reference {
        Some((at, symbol, Width::Relative)) => {
            let at = (start + at) as u16;
            part.references.push(Reference { at, to: Refers::Symbol(symbol) });
        }
        Some((at, _, Width::Absolute)) => {
            let at = (start + at) as u16;
            part.patches.push(Patch { at, field: Field::Wide, form: Form::Wide, add: 0 });
        }
        None => {}
    }
}

/// Whether a site has a short form.
fn shortens(node: &Node, site: &Site) -> bool {
    if site.size != 4 {
        return false;
    }
    if site.disp {
        return node.insn.modrm_at.is_some_and(|at| node.bytes[at] >> 6 == 2);
    }
    let opcode = node.bytes[node.insn.opcode_at];
    node.insn.one_byte && (matches!(opcode, 0x81 | 0x69) || opcode < 0x40 && opcode & 7 == 5)
}

/// The instruction with the given fields in their short form.
fn shorten(node: &Node, short: &[Field]) -> Node {
    let mut node = node.clone();
    // The immediate first: it lies behind the displacement.
    for disp in [false, true] {
        let Some(index) = node.sites.iter().position(|site| site.disp == disp) else { continue };
        let site = node.sites[index];
        if !short.contains(&site.field) || !shortens(&node, &site) {
            continue;
        }
        node.bytes.drain(site.at + 1..site.at + 4);
        node.sites[index].size = 1;
        if disp {
            let modrm = node.insn.modrm_at.expect("a displacement follows a ModRM byte");
            node.bytes[modrm] ^= 0xc0;
            for other in node.sites.iter_mut().filter(|other| !other.disp) {
                other.at -= 3;
            }
            continue;
        }
        let opcode_at = node.insn.opcode_at;
        let opcode = node.bytes[opcode_at];
        node.bytes[opcode_at] = if opcode == 0x69 { 0x6b } else { 0x83 };
        if opcode < 0x40 {
            // The form for rax has no ModRM: `83 /digit`.
            node.bytes.insert(opcode_at + 1, 0xc0 | opcode & 0x38);
            node.sites[index].at += 1;
        }
    }
    node
}
