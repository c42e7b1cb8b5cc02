// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

interface IToken {
    function transfer(address to, uint256 amount) external returns (bool);
}

/// Pays out what a Merkle tree promises: leaves are hashed twice, pairs are sorted, a bitmap says who was paid.
contract Airdrop {
    struct Claim {
        uint256 index;
        address account;
        uint256 amount;
        bytes32[] proof;
    }

    bytes32 public root;
    IToken public token;
    mapping(uint256 => uint256) private claimed;

    event Claimed(uint256 indexed index, address indexed account, uint256 amount);

    error AlreadyClaimed(uint256 index);
    error InvalidProof(uint256 index);

    function claim(Claim calldata one) external returns (uint256) {
        return _claim(one);
    }

    function claimMany(Claim[] calldata many) external returns (uint256 total) {
        for (uint256 i = 0; i < many.length; i++) total += _claim(many[i]);
    }

    function isClaimed(uint256 index) public view returns (bool) {
        return claimed[index >> 8] & (1 << (index & 255)) != 0;
    }

    function _claim(Claim calldata one) private returns (uint256) {
        if (isClaimed(one.index)) revert AlreadyClaimed(one.index);
        bytes32 node = keccak256(bytes.concat(keccak256(abi.encode(one.index, one.account, one.amount))));
        for (uint256 i = 0; i < one.proof.length; i++) node = _pair(node, one.proof[i]);
        if (node != root) revert InvalidProof(one.index);
        claimed[one.index >> 8] |= 1 << (one.index & 255);
        require(token.transfer(one.account, one.amount));
        emit Claimed(one.index, one.account, one.amount);
        return one.amount;
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32 node) {
        if (a > b) (a, b) = (b, a);
        assembly {
            mstore(0, a)
            mstore(32, b)
            node := keccak256(0, 64)
        }
    }
}
