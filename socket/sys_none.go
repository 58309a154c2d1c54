//go:build !unix

package socket

import (
	"net/netip"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/unix"
)

// On systems without epoll there is no loop that a socket could be on, so none of these is ever
// called; they are here so that one can work on Whorl there.

func sysRead(int, []byte) (int, syscall.Errno)               { return 0, syscall.ENOSYS }
func sysSend(int, []byte) (int, syscall.Errno)               { return 0, syscall.ENOSYS }
func sysPeek(int, []byte) (int, syscall.Errno)               { return 0, syscall.ENOSYS }
func sysMessageSize(int) int                                 { return 0 }
func sysReadable(int) bool                                   { return false }
func sysReadv(int, [][]byte) (int, syscall.Errno)            { return 0, syscall.ENOSYS }
func sysSendv(int, [][]byte) (int, syscall.Errno)            { return 0, syscall.ENOSYS }
func sysSendfile(int, int, *int64, int) (int, syscall.Errno) { return 0, syscall.ENOSYS }
func sysSocket(int, int) (int, error)                        { return -1, syscall.ENOSYS }

func sysPair(int) ([2]int, error) { return [2]int{-1, -1}, syscall.ENOSYS }
func sysAccept(int) (int, netip.AddrPort, syscall.Errno) {
	return -1, netip.AddrPort{}, syscall.ENOSYS
}

func sysKind(int) (int, int, bool, error)           { return 0, 0, false, syscall.ENOSYS }
func duplicate(*os.File) (int, error)               { return -1, syscall.ENOSYS }
func sysConnect(int, unix.Sockaddr) syscall.Errno   { return syscall.ENOSYS }
func sysConnected(int, unix.Sockaddr) syscall.Errno { return syscall.ENOSYS }
func sysLocalPort(int) (uint16, bool)               { return 0, false }
func sysSetOption(int, int, int, int)               {}
func sysResetOnClose(int)                           {}
func sysVacate(int)                                 {}
func sysClose(int)                                  {}
func sysUnread(int) int                             { return 0 }
func sysReceiveBuffer(int) int                      { return 0 }
func sysNotSent(int) int                            { return 0 }
func sysUnsent(int) int                             { return 0 }
func sysFailed(int) bool                            { return false }
func setBindNoPort(int)                             {}

const endIsTold = false
