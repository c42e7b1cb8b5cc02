// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Forwards everything by DELEGATECALL to the address in a slot of its own.
abstract contract Forwarder {
    function _slot() internal pure virtual returns (bytes32);

    fallback() external payable {
        bytes32 slot = _slot();
        assembly {
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), sload(slot), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(ok) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}

/// The proxy that owns the storage.
contract OuterProxy is Forwarder {
    function _slot() internal pure override returns (bytes32) {
        return keccak256("kiln.workload.proxy.outer");
    }
}

/// Runs in the outer proxy's storage, so its slot must be another one.
contract InnerProxy is Forwarder {
    function _slot() internal pure override returns (bytes32) {
        return keccak256("kiln.workload.proxy.inner");
    }
}

/// What is at the end of the chain: a ledger of counters.
contract Ledger {
    mapping(uint256 => uint256) public counters;
    uint256 public total;

    error TooMuch(uint256 amount);

    function add(uint256 key, uint256 amount) external returns (uint256) {
        if (amount >= 1000) revert TooMuch(amount);
        uint256 value = counters[key] + amount;
        counters[key] = value;
        total += amount;
        return value;
    }
}

/// Calls through the chain; each seventh call reverts and the revert comes back through every layer.
contract Caller {
    function run(Ledger ledger, uint256 rounds) external returns (uint256 checksum) {
        uint256 reverts;
        for (uint256 i = 0; i < rounds; i++) {
            uint256 amount = i % 7 == 6 ? 1000 + i : i;
            try ledger.add(i % 16, amount % 2000) returns (uint256 value) {
                unchecked {
                    checksum = checksum * 31 + value;
                }
            } catch (bytes memory reason) {
                require(bytes4(reason) == Ledger.TooMuch.selector && reason.length == 36);
                reverts++;
            }
        }
        unchecked {
            checksum = checksum * 31 + ledger.total();
            checksum = checksum * 31 + reverts;
        }
    }
}
