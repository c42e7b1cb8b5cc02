// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// ERC-20 with checked arithmetic, events and custom errors.
contract Token {
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 amount);
    event Approval(address indexed owner, address indexed spender, uint256 amount);

    error InsufficientBalance(address account, uint256 balance, uint256 wanted);
    error InsufficientAllowance(address spender, uint256 allowed, uint256 wanted);

    function name() external pure returns (string memory) {
        return "Kiln Workload Token";
    }

    function decimals() external pure returns (uint8) {
        return 18;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        _transfer(msg.sender, to, amount);
        return true;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed < amount) revert InsufficientAllowance(msg.sender, allowed, amount);
        if (allowed != type(uint256).max) allowance[from][msg.sender] = allowed - amount;
        _transfer(from, to, amount);
        return true;
    }

    /// Pseudo-random transfers between the 32 accounts from 0x1000 on; a checksum of the balances.
    function run(uint256 rounds) external returns (uint256 checksum) {
        uint64 seed = 1;
        for (uint256 i = 0; i < rounds; i++) {
            unchecked {
                seed = seed * 6364136223846793005 + 1442695040888963407;
            }
            address from = address(uint160(0x1000 + ((seed >> 59) & 31)));
            address to = address(uint160(0x1000 + ((seed >> 54) & 31)));
            uint256 amount = (seed >> 20) % 500_000;
            if (balanceOf[from] >= amount) _transfer(from, to, amount);
        }
        for (uint256 i = 0; i < 32; i++) {
            unchecked {
                checksum = checksum * 31 + balanceOf[address(uint160(0x1000 + i))];
            }
        }
    }

    function _transfer(address from, address to, uint256 amount) private {
        uint256 balance = balanceOf[from];
        if (balance < amount) revert InsufficientBalance(from, balance, amount);
        balanceOf[from] = balance - amount;
        balanceOf[to] += amount;
        emit Transfer(from, to, amount);
    }
}
