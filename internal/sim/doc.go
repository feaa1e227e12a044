// Package sim x
package sim
