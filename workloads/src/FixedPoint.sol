// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Unsigned fixed point with 18 decimals: 512-bit products, square root, exponential and logarithm.
contract FixedPoint {
    uint256 private constant ONE = 1e18;
    uint256 private constant LN2 = 693147180559945309;

    error Overflow();

    /// floor(a * b / d), also where a * b exceeds 256 bits.
    function mulDiv(uint256 a, uint256 b, uint256 d) public pure returns (uint256 result) {
        unchecked {
            uint256 low = a * b;
            uint256 mm = mulmod(a, b, type(uint256).max);
            uint256 high = mm - low - (mm < low ? 1 : 0);
            if (high == 0) return low / d;
            if (high >= d) revert Overflow();
            uint256 rest = mulmod(a, b, d);
            if (rest > low) high--;
            low -= rest;
            // Exact from here on: divide both by the power of two in d, then multiply by the inverse of
            // what is left of d modulo 2^256, found by Newton's iteration from three correct bits.
            uint256 two = d & (~d + 1);
            d /= two;
            low = (low / two) | (high * ((0 - two) / two + 1));
            uint256 inverse = (3 * d) ^ 2;
            for (uint256 i = 0; i < 6; i++) inverse *= 2 - d * inverse;
            result = low * inverse;
        }
    }

    /// floor(sqrt(x)).
    function sqrt(uint256 x) public pure returns (uint256 root) {
        if (x == 0) return 0;
        root = 1 << ((_log2(x) >> 1) + 1);
        unchecked {
            while (true) {
                uint256 next = (root + x / root) >> 1;
                if (next >= root) return root;
                root = next;
            }
        }
    }

    /// e^x by reduction to [0, ln 2) and a Taylor series.
    function exp(uint256 x) public pure returns (uint256) {
        uint256 k = x / LN2;
        uint256 r = x % LN2;
        uint256 term = ONE;
        uint256 sum = ONE;
        for (uint256 i = 1; term != 0; i++) {
            term = (term * r) / (ONE * i);
            sum += term;
        }
        return sum << k;
    }

    /// ln x for x >= 1, by the series of artanh.
    function ln(uint256 x) public pure returns (uint256) {
        require(x >= ONE);
        uint256 k = _log2(x / ONE);
        uint256 y = x >> k;
        uint256 z = ((y - ONE) * ONE) / (y + ONE);
        uint256 z2 = (z * z) / ONE;
        uint256 sum = 0;
        for (uint256 i = 1; z != 0; i += 2) {
            sum += z / i;
            z = (z * z2) / ONE;
        }
        return 2 * sum + k * LN2;
    }

    function run(uint256 rounds) external pure returns (uint256 checksum) {
        uint256 seed = 0x9e3779b97f4a7c15f39cc0605cedc8341082276bf3a27251f86c6a11d0c18e95;
        for (uint256 i = 0; i < rounds; i++) {
            unchecked {
                seed = seed * 0x5851f42d4c957f2d14057b7ef767814f + 0x14057b7ef767814f;
            }
            uint256 quotient = mulDiv(seed, ~seed, (seed | 1 << 255) - (i << 200));
            uint256 root = sqrt(quotient);
            uint256 e = exp(seed % (40 * ONE));
            uint256 l = ln(ONE + (seed >> 150));
            unchecked {
                checksum = (checksum ^ quotient ^ root) * 0x100000001b3 + e;
                checksum = (checksum ^ l) * 0x100000001b3;
            }
        }
    }

    function _log2(uint256 x) private pure returns (uint256 bits) {
        for (uint256 step = 128; step > 0; step >>= 1) {
            if (x >> step != 0) {
                x >>= step;
                bits += step;
            }
        }
    }
}
