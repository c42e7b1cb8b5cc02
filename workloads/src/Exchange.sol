// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

interface IToken {
    function balanceOf(address account) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
}

interface IExchange {
    function token0() external view returns (IToken);
    function token1() external view returns (IToken);
    function reserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 updated);
    function swap(uint256 out0, uint256 out1, address to) external;
}

/// A constant-product pool of two tokens with a fee of 0.3%, paid in before `swap` is called.
contract Exchange {
    IToken public token0;
    IToken public token1;
    uint112 private reserve0;
    uint112 private reserve1;
    uint32 private updated;
    uint256 public priceCumulative0;
    uint256 public priceCumulative1;
    uint256 private unlocked;

    event Swap(address indexed sender, uint256 in0, uint256 in1, uint256 out0, uint256 out1, address indexed to);
    event Sync(uint112 reserve0, uint112 reserve1);

    error Locked();
    error BadOutput();
    error NothingPaid();
    error ProductFell(uint256 before, uint256 afterwards);

    modifier lock() {
        if (unlocked != 1) revert Locked();
        unlocked = 2;
        _;
        unlocked = 1;
    }

    function reserves() external view returns (uint112, uint112, uint32) {
        return (reserve0, reserve1, updated);
    }

    function swap(uint256 out0, uint256 out1, address to) external lock {
        (uint256 r0, uint256 r1) = (reserve0, reserve1);
        if ((out0 == 0) == (out1 == 0) || out0 >= r0 || out1 >= r1) revert BadOutput();
        if (out0 > 0) require(token0.transfer(to, out0));
        if (out1 > 0) require(token1.transfer(to, out1));
        uint256 b0 = token0.balanceOf(address(this));
        uint256 b1 = token1.balanceOf(address(this));
        uint256 in0 = b0 > r0 - out0 ? b0 - (r0 - out0) : 0;
        uint256 in1 = b1 > r1 - out1 ? b1 - (r1 - out1) : 0;
        if (in0 == 0 && in1 == 0) revert NothingPaid();
        uint256 product = (b0 * 1000 - in0 * 3) * (b1 * 1000 - in1 * 3);
        if (product < r0 * r1 * 1_000_000) revert ProductFell(r0 * r1, product / 1_000_000);
        _update(b0, b1, r0, r1);
        emit Swap(msg.sender, in0, in1, out0, out1, to);
    }

    function _update(uint256 b0, uint256 b1, uint256 r0, uint256 r1) private {
        uint32 timestamp = uint32(block.timestamp);
        unchecked {
            // Modulo 2^32, so that it outlives the year 2106.
            uint32 elapsed = timestamp - updated;
            if (elapsed > 0) {
                priceCumulative0 += ((r1 << 112) / r0) * elapsed;
                priceCumulative1 += ((r0 << 112) / r1) * elapsed;
            }
        }
        require(b0 <= type(uint112).max && b1 <= type(uint112).max);
        reserve0 = uint112(b0);
        reserve1 = uint112(b1);
        updated = timestamp;
        emit Sync(uint112(b0), uint112(b1));
    }
}

/// Trades against a pool with its own tokens.
contract Trader {
    function quote(uint256 amountIn, uint256 reserveIn, uint256 reserveOut) public pure returns (uint256) {
        uint256 withFee = amountIn * 997;
        return (withFee * reserveOut) / (reserveIn * 1000 + withFee);
    }

    /// Swaps back and forth; a checksum of all outputs.
    function run(IExchange pool, uint256 rounds) external returns (uint256 checksum) {
        uint64 seed = 7;
        for (uint256 i = 0; i < rounds; i++) {
            unchecked {
                seed = seed * 6364136223846793005 + 1442695040888963407;
            }
            uint256 amountIn = 1 ether + (uint256(seed) << 2);
            (uint256 r0, uint256 r1,) = pool.reserves();
            uint256 out;
            if ((seed >> 63) == 0) {
                pool.token0().transfer(address(pool), amountIn);
                out = quote(amountIn, r0, r1);
                pool.swap(0, out, address(this));
            } else {
                pool.token1().transfer(address(pool), amountIn);
                out = quote(amountIn, r1, r0);
                pool.swap(out, 0, address(this));
            }
            unchecked {
                checksum = checksum * 31 + out;
            }
        }
    }
}
