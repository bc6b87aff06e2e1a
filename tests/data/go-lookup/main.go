// Looks up each name of its arguments with Go's own resolver, and prints what it finds.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		found, err := resolver.LookupHost(context.Background(), name)
		if err != nil {
			fmt.Printf("%s: %v\n", name, err)
			continue
		}
		sort.Strings(found)
		fmt.Printf("%s: %s\n", name, strings.Join(found, " "))
	}
}
