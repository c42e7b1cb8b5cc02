//! Standard output, where a reader that went away is an error and not a panic; and the units of
//! what is written there.

use comfy_table::{CellAlignment, Table, presets};
use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
    ops::Range,
};

/// Standard output.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Locks standard output.
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// Writes what is no text.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Whether a person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.get_ref().is_terminal()
    }
}

/// An empty table, with rules for a terminal; the columns in `numbers` are aligned at the right.
pub(crate) fn table(is_terminal: bool, header: &[&str], numbers: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_preset(if is_terminal { presets::UTF8_HORIZONTAL_ONLY } else { presets::NOTHING });
    table.set_header(header);
    for column in table.column_iter_mut().skip(numbers.start).take(numbers.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// How many programs came from a store.
pub(crate) fn loaded(programs: u64) -> String {
    format!("{} programs loaded from the store", grouped(programs))
}

/// Nanoseconds in the unit that fits.
pub(crate) fn duration(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.1} µs", ns / 1e3),
        ..1e9 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.5 µs");
        assert_eq!(duration(12_340_000), "12.34 ms");
        assert_eq!(duration(2_000_000_000), "2.00 s");
    }
}
