package socket

import "github.com/whorl-go/whorl/internal/house"

// House returns what the packages of this module may do with s. Programs have no Key for it.
func House(s *Socket, _ house.Key) house.Socket { return (*inner)(s) }

// inner is a Socket with the methods of house.Socket, which are described there.
type inner Socket
