//! What several formats have in them.
//!
//! **Owns** how bytes and configurations are written down. **Callers guarantee** nothing. **Never** checks more than shape.

use crate::DecodeError;
use kiln_ir::{Config, OpcodeSet, SpecId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are written and read in one piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// What is baked in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WireConfig<'a> {
    spec: u8,
    #[serde(borrow)]
    gas: Bytes<'a>,
    replaced: [u64; 4],
}

impl<'a> WireConfig<'a> {
    /// With the [`gas_bytes`] of it.
    pub(crate) fn new(config: &Config, gas: &'a [u8; 512]) -> Self {
        Self { spec: config.spec as u8, gas: Bytes(gas), replaced: config.replaced.words() }
    }

    pub(crate) fn read(&self) -> Result<Config, DecodeError> {
        let no_gas = DecodeError::Malformed("not the gas of 256 opcodes");
        let sent: &[u8; 512] = self.gas.0.try_into().map_err(|_| no_gas)?;
        let mut gas = [0; 256];
        for (gas, sent) in gas.iter_mut().zip(sent.as_chunks().0) {
            *gas = u16::from_le_bytes(*sent);
        }
        let spec = SpecId::try_from_u8(self.spec).ok_or(DecodeError::Malformed("not a fork"))?;
        Ok(Config { spec, gas, replaced: OpcodeSet::from_words(self.replaced) })
    }
}

/// Static gas by opcode, two bytes each, the lower first.
pub(crate) fn gas_bytes(gas: &[u16; 256]) -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes.as_chunks_mut().0.iter_mut().zip(gas).for_each(|(to, gas)| *to = gas.to_le_bytes());
    bytes
}

/// Behind bytes that were written, another value in postcard.
pub(crate) fn add(bytes: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect("memory takes all of it, and its shape is fixed")
}
