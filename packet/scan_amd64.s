#include "textflag.h"

// func scanBlocks(data []byte, c byte, ends []uint32) (found, scanned int)
//
// 64 bytes at a time are compared with c, with SSE2, which every amd64 has. The comparison's outcome is a word with a bit for each byte.
//
//	SI data            DI where the next end goes
//	BX size to scan    DX behind the last end
//	CX scanned         R8 the bits
TEXT ·scanBlocks(SB), NOSPLIT, $0-72
	MOVQ    data_base+0(FP), SI
	MOVQ    data_len+8(FP), BX
	MOVBLZX c+24(FP), AX
	MOVQ    ends_base+32(FP), DI
	MOVQ    ends_len+40(FP), DX
	LEAQ    (DI)(DX*4), DX
	MOVD    AX, X0
	PUNPCKLBW X0, X0
	PUNPCKLBW X0, X0
	PSHUFL  $0, X0, X0
	ANDQ    $~63, BX
	XORL    CX, CX

block:
	CMPQ    CX, BX
	JGE     done
	MOVOU   (SI)(CX*1), X1
	MOVOU   16(SI)(CX*1), X2
	MOVOU   32(SI)(CX*1), X3
	MOVOU   48(SI)(CX*1), X4
	PCMPEQB X0, X1
	PCMPEQB X0, X2
	PCMPEQB X0, X3
	PCMPEQB X0, X4
	PMOVMSKB X1, R8
	PMOVMSKB X2, R9
	PMOVMSKB X3, R10
	PMOVMSKB X4, R11
	SHLQ    $16, R9
	SHLQ    $32, R10
	SHLQ    $48, R11
	ORQ     R9, R8
	ORQ     R11, R10
	ADDQ    $64, CX
	ORQ     R10, R8
	JZ      block

bit:
	BSFQ    R8, R9
	LEAQ    -63(CX)(R9*1), R9 // the end: one behind the byte
	CMPQ    DI, DX
	JEQ     full
	MOVL    R9, (DI)
	ADDQ    $4, DI
	LEAQ    -1(R8), R10
	ANDQ    R10, R8           // without its lowest bit
	JNZ     bit
	JMP     block

full:
	LEAQ    -1(R9), CX // this one isn't stored any more

done:
	SUBQ    ends_base+32(FP), DI
	SHRQ    $2, DI
	MOVQ    DI, found+56(FP)
	MOVQ    CX, scanned+64(FP)
	RET
