// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Runs the bytecode of a small stack machine. Opcodes are dispatched through a table of internal
/// function pointers, so that the EVM code jumps to destinations that are known only at run time.
///
///   00 halt        01 xx push     02 dup n       03 swap n     04 pop
///   05 add         06 sub         07 mul         08 div        09 mod
///   0a less than   0b equal       0c not         0d hhll jump  0e hhll jump if
///   0f n load      10 n store
contract Interpreter {
    struct Machine {
        bytes code;
        uint256 pc;
        uint256 height;
        uint256 steps;
        uint256[] stack;
        uint256[16] cells;
    }

    error BadOpcode(uint256 pc, uint8 opcode);
    error StackUnderflow(uint256 pc);

    function run(bytes calldata code, uint256 input) external pure returns (uint256 result, uint256 steps) {
        function(Machine memory) pure[17] memory table = [
            _halt, _push, _dup, _swap, _pop, _add, _sub, _mul, _div, _mod, _lt, _eq, _not, _jump, _jumpIf, _load, _store
        ];
        Machine memory m;
        m.code = code;
        m.stack = new uint256[](64);
        m.cells[0] = input;
        while (m.pc < m.code.length) {
            uint8 opcode = uint8(m.code[m.pc]);
            if (opcode >= table.length) revert BadOpcode(m.pc, opcode);
            m.pc++;
            m.steps++;
            table[opcode](m);
        }
        return (_take(m), m.steps);
    }

    function _halt(Machine memory m) private pure {
        m.pc = m.code.length;
    }

    function _push(Machine memory m) private pure {
        _give(m, _byte(m));
    }

    function _dup(Machine memory m) private pure {
        _give(m, m.stack[m.height - 1 - _byte(m)]);
    }

    function _swap(Machine memory m) private pure {
        uint256 top = m.height - 1;
        uint256 other = top - _byte(m);
        (m.stack[top], m.stack[other]) = (m.stack[other], m.stack[top]);
    }

    function _pop(Machine memory m) private pure {
        _take(m);
    }

    function _add(Machine memory m) private pure {
        unchecked {
            _give(m, _take(m) + _take(m));
        }
    }

    function _sub(Machine memory m) private pure {
        uint256 b = _take(m);
        unchecked {
            _give(m, _take(m) - b);
        }
    }

    function _mul(Machine memory m) private pure {
        unchecked {
            _give(m, _take(m) * _take(m));
        }
    }

    function _div(Machine memory m) private pure {
        uint256 b = _take(m);
        _give(m, _take(m) / b);
    }

    function _mod(Machine memory m) private pure {
        uint256 b = _take(m);
        _give(m, _take(m) % b);
    }

    function _lt(Machine memory m) private pure {
        uint256 b = _take(m);
        _give(m, _take(m) < b ? 1 : 0);
    }

    function _eq(Machine memory m) private pure {
        _give(m, _take(m) == _take(m) ? 1 : 0);
    }

    function _not(Machine memory m) private pure {
        _give(m, _take(m) == 0 ? 1 : 0);
    }

    function _jump(Machine memory m) private pure {
        m.pc = _word(m);
    }

    function _jumpIf(Machine memory m) private pure {
        uint256 to = _word(m);
        if (_take(m) != 0) m.pc = to;
    }

    function _load(Machine memory m) private pure {
        _give(m, m.cells[_byte(m)]);
    }

    function _store(Machine memory m) private pure {
        m.cells[_byte(m)] = _take(m);
    }

    function _byte(Machine memory m) private pure returns (uint256) {
        return uint8(m.code[m.pc++]);
    }

    function _word(Machine memory m) private pure returns (uint256) {
        uint256 high = _byte(m);
        return (high << 8) | _byte(m);
    }

    function _give(Machine memory m, uint256 value) private pure {
        m.stack[m.height++] = value;
    }

    function _take(Machine memory m) private pure returns (uint256) {
        if (m.height == 0) revert StackUnderflow(m.pc);
        return m.stack[--m.height];
    }
}
