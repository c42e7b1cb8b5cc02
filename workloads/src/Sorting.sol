// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Three sorting algorithms over memory arrays, with the checks that the compiler puts in.
contract Sorting {
    error NotSorted(uint256 at);

    function quick(uint256[] memory a) public pure returns (uint256[] memory) {
        if (a.length > 1) _quick(a, 0, int256(a.length) - 1);
        return a;
    }

    function heap(uint256[] memory a) public pure returns (uint256[] memory) {
        uint256 n = a.length;
        for (uint256 i = n / 2; i > 0; i--) _sink(a, i - 1, n);
        for (uint256 end = n; end > 1; end--) {
            (a[0], a[end - 1]) = (a[end - 1], a[0]);
            _sink(a, 0, end - 1);
        }
        return a;
    }

    function insertion(uint256[] memory a) public pure returns (uint256[] memory) {
        for (uint256 i = 1; i < a.length; i++) {
            uint256 value = a[i];
            uint256 j = i;
            for (; j > 0 && a[j - 1] > value; j--) a[j] = a[j - 1];
            a[j] = value;
        }
        return a;
    }

    function run(uint256 length) external pure returns (bytes32) {
        bytes32 q = _hash(quick(_fill(length, 1)));
        bytes32 h = _hash(heap(_fill(length, 2)));
        bytes32 i = _hash(insertion(_fill(length / 4, 3)));
        return keccak256(abi.encodePacked(q, h, i));
    }

    function _fill(uint256 length, uint256 seed) private pure returns (uint256[] memory a) {
        a = new uint256[](length);
        for (uint256 i = 0; i < length; i++) a[i] = uint256(keccak256(abi.encode(seed, i))) >> 128;
    }

    function _hash(uint256[] memory a) private pure returns (bytes32) {
        for (uint256 i = 1; i < a.length; i++) if (a[i - 1] > a[i]) revert NotSorted(i);
        return keccak256(abi.encodePacked(a));
    }

    function _quick(uint256[] memory a, int256 left, int256 right) private pure {
        int256 i = left;
        int256 j = right;
        uint256 pivot = a[uint256(left + (right - left) / 2)];
        while (i <= j) {
            while (a[uint256(i)] < pivot) i++;
            while (pivot < a[uint256(j)]) j--;
            if (i <= j) {
                (a[uint256(i)], a[uint256(j)]) = (a[uint256(j)], a[uint256(i)]);
                i++;
                j--;
            }
        }
        if (left < j) _quick(a, left, j);
        if (i < right) _quick(a, i, right);
    }

    function _sink(uint256[] memory a, uint256 i, uint256 n) private pure {
        while (true) {
            uint256 child = 2 * i + 1;
            if (child >= n) return;
            if (child + 1 < n && a[child + 1] > a[child]) child++;
            if (a[i] >= a[child]) return;
            (a[i], a[child]) = (a[child], a[i]);
            i = child;
        }
    }
}
