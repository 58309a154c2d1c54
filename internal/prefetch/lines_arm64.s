#include "textflag.h"

// func Lines(addr uintptr, n int)
TEXT ·Lines(SB), NOSPLIT, $0-16
	MOVD addr+0(FP), R0
	MOVD n+8(FP), R1
	B    test
next:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUB  $1, R1
test:
	CMP  $0, R1
	BGT  next
	RET
