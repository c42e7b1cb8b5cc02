//! State root and logs root (Yellow Paper, section 4.1 and appendix D), from alloy's trie.

use alloy_rlp::Encodable;
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, root::storage_root_unhashed};
use revm::{
    database::PlainAccount,
    primitives::{Address, B256, Log, keccak256},
};

/// Keccak-256 of the RLP list of the logs.
pub fn logs_root(logs: &[Log]) -> B256 {
    let mut bytes = Vec::with_capacity(alloy_rlp::list_length(logs));
    alloy_rlp::encode_list(logs, &mut bytes);
    keccak256(&bytes)
}

/// The root of the state trie that holds these accounts.
pub fn state_root<'a>(accounts: impl IntoIterator<Item = (Address, &'a PlainAccount)>) -> B256 {
    let leaves = accounts.into_iter().map(|(address, account)| (keccak256(address), leaf(account)));
    let mut leaves: Vec<_> = leaves.collect();
    leaves.sort_unstable_by_key(|(key, _)| *key);
    let mut trie = HashBuilder::default();
    let mut rlp = Vec::new();
    for (key, account) in leaves {
        rlp.clear();
        account.encode(&mut rlp);
        trie.add_leaf(Nibbles::unpack(key), &rlp);
    }
    trie.root()
}

fn leaf(account: &PlainAccount) -> TrieAccount {
    let slots = account.storage.iter().filter(|(_, value)| !value.is_zero());
    TrieAccount {
        nonce: account.info.nonce,
        balance: account.info.balance,
        storage_root: storage_root_unhashed(slots.map(|(key, &value)| (B256::from(*key), value))),
        code_hash: account.info.code_hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::primitives::b256;

    #[test]
    fn nothing_has_the_well_known_roots() {
        let empty = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
        assert_eq!(state_root([]), empty);
        let no_logs = b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
        assert_eq!(logs_root(&[]), no_logs);
    }
}
