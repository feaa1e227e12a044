package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// The memory probe copies between regions too large for any cache.
	copyRegion = 256 << 20
	// The loopback probe writes in pieces of a large batch for so long.
	loopbackPiece = 128 << 10
	limitsFor     = time.Second
)

// probeCopy gives the MB/s that one core copies from memory to memory.
func probeCopy() float64 {
	from, to := make([]byte, copyRegion), make([]byte, copyRegion)
	for i := 0; i < copyRegion; i += probeBlock { // pages are there before the clock runs
		from[i], to[i] = 1, 1
	}
	copied, begin := 0, time.Now()
	for time.Since(begin) < limitsFor {
		copied += copy(to, from)
	}
	return float64(copied) / 1e6 / time.Since(begin).Seconds()
}

// probeLoopback gives the MB/s of one TCP connection between two goroutines.
func probeLoopback() (mbps float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("probe loopback: %w", err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			sent <- errors.Join(err, l.Close())
			return
		}
		piece := make([]byte, loopbackPiece)
		for begin := time.Now(); time.Since(begin) < limitsFor && err == nil; {
			_, err = c.Write(piece)
		}
		sent <- errors.Join(err, c.Close())
	}()
	c, err := l.Accept()
	if err != nil {
		return 0, errors.Join(fmt.Errorf("probe loopback: %w", err), <-sent)
	}
	defer c.Close()
	begin, buf := time.Now(), make([]byte, loopbackPiece)
	var read int64
	for {
		n, err := c.Read(buf)
		read += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, errors.Join(fmt.Errorf("probe loopback: %w", err), <-sent)
		}
	}
	return float64(read) / 1e6 / time.Since(begin).Seconds(), <-sent
}
