// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Renders a grey picture of two spheres over a floor by marching rays through a distance field.
/// Signed fixed point with 32 fractional bits.
contract RayMarch {
    int256 private constant ONE = 1 << 32;
    int256 private constant NEAR = ONE >> 8;
    int256 private constant FAR = 24 * ONE;

    struct Vec {
        int256 x;
        int256 y;
        int256 z;
    }

    /// One byte a pixel, row by row; returns the keccak of the picture and its sum.
    function run(uint256 width, uint256 height) external pure returns (bytes32 hash, uint256 sum) {
        bytes memory image = new bytes(width * height);
        for (uint256 row = 0; row < height; row++) {
            for (uint256 column = 0; column < width; column++) {
                uint8 shade = _pixel(
                    (int256(2 * column + 1) * ONE) / int256(width) - ONE,
                    ONE - (int256(2 * row + 1) * ONE) / int256(height)
                );
                image[row * width + column] = bytes1(shade);
                sum += shade;
            }
        }
        hash = keccak256(image);
    }

    function _pixel(int256 u, int256 v) private pure returns (uint8) {
        Vec memory direction = _unit(Vec(u, v, (3 * ONE) / 2));
        int256 t = 0;
        for (uint256 step = 0; step < 28; step++) {
            Vec memory p = _along(direction, t);
            int256 d = _distance(p);
            if (d < NEAR) return _shade(p, d);
            t += d;
            if (t > FAR) break;
        }
        return 0;
    }

    /// Light from above left: how fast the distance grows towards it.
    function _shade(Vec memory p, int256 d) private pure returns (uint8) {
        Vec memory q = Vec(p.x - ONE / 16, p.y + ONE / 8, p.z - ONE / 16);
        int256 light = (_distance(q) - d) * 8;
        if (light < 0) light = 0;
        if (light > ONE) light = ONE;
        return uint8(uint256(16 + ((light * 239) >> 32)));
    }

    function _distance(Vec memory p) private pure returns (int256) {
        int256 a = _sphere(p, -ONE / 2, 0, 4 * ONE, ONE);
        int256 b = _sphere(p, ONE, -ONE / 4, 3 * ONE, ONE / 2);
        int256 floor_ = p.y + ONE;
        int256 nearest = a < b ? a : b;
        return nearest < floor_ ? nearest : floor_;
    }

    function _sphere(Vec memory p, int256 x, int256 y, int256 z, int256 radius) private pure returns (int256) {
        return _length(p.x - x, p.y - y, p.z - z) - radius;
    }

    function _along(Vec memory d, int256 t) private pure returns (Vec memory) {
        return Vec((d.x * t) >> 32, (d.y * t) >> 32, (d.z * t) >> 32);
    }

    function _unit(Vec memory a) private pure returns (Vec memory) {
        int256 length = _length(a.x, a.y, a.z);
        return Vec((a.x * ONE) / length, (a.y * ONE) / length, (a.z * ONE) / length);
    }

    function _length(int256 x, int256 y, int256 z) private pure returns (int256) {
        return _sqrt(x * x + y * y + z * z);
    }

    /// floor(sqrt(x)) for x below 2^160, by Newton's iteration from above.
    function _sqrt(int256 x) private pure returns (int256 root) {
        unchecked {
            root = ONE;
            while (root * root <= x) root <<= 1;
            while (true) {
                int256 next = (root + x / root) >> 1;
                if (next >= root) break;
                root = next;
            }
        }
    }
}
