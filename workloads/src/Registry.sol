// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// A name registry: packed records, strings of one and of several slots, an index that stays dense,
/// a linked list per owner, and a lock in transient storage.
contract Registry {
    struct Record {
        address owner;
        uint64 expiry;
        uint32 version;
        uint256 position;
        bytes32 next;
        string name;
    }

    mapping(bytes32 => Record) private records;
    mapping(address => bytes32) private heads;
    mapping(address => uint256) public owned;
    bytes32[] private index;

    event Registered(bytes32 indexed id, address indexed owner, string name);
    event Renewed(bytes32 indexed id, uint64 expiry);
    event Removed(bytes32 indexed id);

    error Locked();
    error Taken(bytes32 id);
    error NotOwner(bytes32 id, address owner);

    modifier lock() {
        bool locked;
        assembly {
            locked := tload(0)
            tstore(0, 1)
        }
        if (locked) revert Locked();
        _;
        assembly {
            tstore(0, 0)
        }
    }

    function count() external view returns (uint256) {
        return index.length;
    }

    function nameOf(bytes32 id) external view returns (string memory) {
        return records[id].name;
    }

    function register(string memory name, address owner, uint64 expiry) public lock returns (bytes32 id) {
        id = keccak256(bytes(name));
        Record storage record = records[id];
        if (record.owner != address(0)) revert Taken(id);
        record.owner = owner;
        record.expiry = expiry;
        record.version = 1;
        record.position = index.length;
        record.next = heads[owner];
        record.name = name;
        heads[owner] = id;
        owned[owner]++;
        index.push(id);
        emit Registered(id, owner, name);
    }

    function renew(bytes32 id, uint64 extra) public lock {
        Record storage record = records[id];
        record.expiry += extra;
        record.version++;
        emit Renewed(id, record.expiry);
    }

    function remove(bytes32 id, address owner) public lock {
        Record storage record = records[id];
        if (record.owner != owner) revert NotOwner(id, record.owner);
        bytes32 last = index[index.length - 1];
        index[record.position] = last;
        records[last].position = record.position;
        index.pop();
        if (heads[owner] == id) {
            heads[owner] = record.next;
        } else {
            bytes32 at = heads[owner];
            while (records[at].next != id) at = records[at].next;
            records[at].next = record.next;
        }
        owned[owner]--;
        delete records[id];
        emit Removed(id);
    }

    /// Registers names of 3 to 72 bytes for eight owners, renews at random, removes every third.
    function run(uint256 names) external returns (uint256 checksum) {
        bytes32[] memory ids = new bytes32[](names);
        for (uint256 i = 0; i < names; i++) {
            ids[i] = register(_name(i), _owner(i), uint64(1000 + i));
        }
        uint64 seed = 3;
        for (uint256 i = 0; i < 4 * names; i++) {
            unchecked {
                seed = seed * 6364136223846793005 + 1442695040888963407;
            }
            renew(ids[(seed >> 33) % names], uint64(seed >> 54));
        }
        for (uint256 i = 0; i < names; i += 3) remove(ids[i], _owner(i));
        for (uint256 i = 0; i < index.length; i++) {
            Record storage record = records[index[i]];
            unchecked {
                checksum = checksum * 31 + record.expiry;
                checksum = checksum * 31 + record.version;
                checksum = checksum * 31 + bytes(record.name).length;
                checksum = checksum * 31 + uint256(index[i]);
            }
        }
        for (uint256 i = 0; i < 8; i++) {
            for (bytes32 at = heads[_owner(i)]; at != 0; at = records[at].next) {
                unchecked {
                    checksum = checksum * 31 + records[at].position;
                }
            }
        }
    }

    function _owner(uint256 i) private pure returns (address) {
        return address(uint160(0x2000 + (i & 7)));
    }

    function _name(uint256 i) private pure returns (string memory) {
        bytes memory name = new bytes(3 + ((i * 23) % 70));
        uint256 rest = i + 1;
        for (uint256 k = 0; k < name.length; k++) {
            name[k] = bytes1(uint8(97 + (rest % 26)));
            rest = rest / 26 + k;
        }
        // Two digits at the front keep names of one length apart.
        name[0] = bytes1(uint8(48 + (i / 10) % 10));
        name[1] = bytes1(uint8(48 + (i % 10)));
        return string(name);
    }
}
