package process

// ExitCode is the exit status of a program that has ended: -1 while it runs, and
// when a signal has ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}
