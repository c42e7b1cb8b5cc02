//! Inputs of precompiles: good ones, so that they are not all refused, and what they are called with.

use revm::primitives::hex;

/// Inputs with the address they are for. Short: they stand in the program's code.
pub(super) const INPUTS: &[(u16, &[u8])] = &[
    (0x01, &ECRECOVER),
    (0x02, b"abc"),
    (0x03, b""),
    (0x04, &ECRECOVER),
    (0x04, b""),
    (0x05, &MODEXP),
    (0x05, &MODEXP_WIDE),
    (0x06, &POINTS),
    (0x07, &POINTS),
    (0x08, b""),
    (0x09, &BLAKE2F),
    // Not a proof, and too short for one.
    (0x0a, &ECRECOVER),
    (0x0b, b""),
    (0x100, &P256),
];

/// A hash, v, r and s.
const ECRECOVER: [u8; 128] = hex!(
    "456e9aea5e197a1f1af7a3e85a3212fa4049a3ba34c2289b4c860fc0b0c64ef3"
    "000000000000000000000000000000000000000000000000000000000000001c"
    "9242685bf161793cc25603c231bc2f568eb630ea16aa137d2664ac8038825608"
    "4f8ae3bd7535248d0bd448298cc2e2071e56992d0774dc340c368ae950852ada"
);

/// 3 to the 5th modulo 7.
const MODEXP: [u8; 99] = hex!(
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000001"
    "030507"
);

/// Lengths that nobody can pay.
const MODEXP_WIDE: [u8; 96] = hex!(
    "00000000000000000000000000000000000000000000000000000000ffffffff"
    "0000000000000000000000000000000000000000000000000000000000000020"
    "00000000000000000000000000000000000000000000000000000000ffffffff"
);

/// The generator of BN254, twice; for multiplication the second one's x is the factor.
const POINTS: [u8; 128] = hex!(
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000002"
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000002"
);

/// EIP-152, test vector 5: twelve rounds over "abc".
const BLAKE2F: [u8; 213] = hex!(
    "0000000c48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f"
    "3af54fa5d182e6ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e13"
    "19cde05b61626300000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "000000000300000000000000000000000000000001"
);

/// EIP-7951: a hash, r, s, x and y.
const P256: [u8; 160] = hex!(
    "4cee90eb86eaa050036147a12d49004b6b9c72bd725d39d4785011fe190f0b4d"
    "a73bd4903f0ce3b639bbbf6e8e80d16931ff4bcf5993d58468e8fb19086e8cac"
    "36dbcd03009df8c59286b162af3bd7fcc0450c9aa81be5d10d312af6c66b1d60"
    "4aebd3099c618202fcfe16ae7770b0c49ab5eadf74b754204a3bb6060e44eff3"
    "7618b065f9832de4ca6ca971a7a1adc826d0f7c00181a5fb2ddf79ae00b4e10e"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::push_word;
    use crate::case::Case;
    use crate::db::CaseDb;
    use crate::engine::oracle;
    use revm::bytecode::opcode as op;
    use revm::primitives::{U256, hardfork::SpecId};

    /// Calls a precompile with bytes of calldata; whether it succeeded, with its output's length.
    fn call(address: u16, input: &[u8]) -> (bool, usize) {
        let mut code = vec![op::CALLDATASIZE, op::PUSH0, op::PUSH0, op::CALLDATACOPY];
        code.extend([op::PUSH0, op::PUSH0, op::CALLDATASIZE, op::PUSH0]);
        push_word(&mut code, U256::from(address));
        code.extend([op::GAS, op::STATICCALL, op::PUSH0, op::MSTORE, op::RETURNDATASIZE]);
        code.extend([op::PUSH1, 32, op::MSTORE, op::PUSH1, 64, op::PUSH0, op::RETURN]);
        let case = Case { calldata: input.to_vec(), ..Case::of_code(SpecId::OSAKA, code) };
        let outcome = oracle(&case, &CaseDb::new(&case));
        let output = outcome.transactions[0].output();
        (output[31] == 1, usize::from(output[63]))
    }

    #[test]
    fn good_inputs_are_good() {
        let expected = [
            (0x01, 32),
            (0x02, 32),
            (0x03, 32),
            (0x04, 128),
            (0x05, 1),
            (0x06, 64),
            (0x07, 64),
            (0x08, 32),
            (0x09, 64),
            (0x100, 32),
        ];
        for (address, len) in expected {
            let (_, input) = INPUTS.iter().find(|(of, _)| *of == address).unwrap();
            assert_eq!(call(address, input), (true, len), "{address:#x}");
        }
    }
}
