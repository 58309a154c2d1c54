#include "textflag.h"

// func Lines(addr uintptr, n int)
TEXT ·Lines(SB), NOSPLIT, $0-16
	MOVQ addr+0(FP), AX
	MOVQ n+8(FP), CX
	JMP  test
next:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	DECQ CX
test:
	CMPQ CX, $0
	JGT  next
	RET
