package smtp

// EndRefusalPause has the time pass in which a Pool doesn't log in.
func EndRefusalPause(p *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusedAt = p.refusedAt.Add(-refusalPause)
}
