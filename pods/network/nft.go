package network

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netns"
)

// foreign matches what nft prints for rules that iptables made with its own extensions, and cannot read back.
var foreign = regexp.MustCompile(`(?m)^.*\bxt (match|target) .*$`)

// saveRuleset returns the namespace's ruleset in nft's own words, without the tables of CRIU's network lock and ours.
func saveRuleset(ctx context.Context, ns netns.NsHandle) (string, error) {
	tables, err := tableNames(ns)
	if err != nil {
		return "", err
	}
	var commands strings.Builder
	for _, table := range tables {
		if !strings.Contains(table, " CRIU") && table != "netdev "+loopbackTable {
			commands.WriteString("list table " + table + "\n")
		}
	}
	if commands.Len() == 0 {
		return "", nil
	}
	ruleset, err := nftOutput(ctx, ns, commands.String())
	if err != nil {
		return "", fmt.Errorf("save nftables: %w", err)
	}
	if rule := foreign.FindString(ruleset); rule != "" {
		return "", fmt.Errorf("nftables rule %q was made by iptables and cannot be moved: write it with nft", strings.TrimSpace(rule))
	}
	return ruleset, nil
}

// loadRuleset replaces the namespace's ruleset.
func loadRuleset(ctx context.Context, ns netns.NsHandle, ruleset string) error {
	tables, err := tableNames(ns)
	if err != nil {
		return err
	}
	if ruleset == "" && len(tables) == 0 {
		return nil
	}
	var script strings.Builder
	for _, table := range tables {
		if table != "netdev "+loopbackTable {
			script.WriteString("delete table " + table + "\n")
		}
	}
	script.WriteString(ruleset)
	if err := nft(ctx, ns, script.String()); err != nil {
		return fmt.Errorf("load nftables: %w", err)
	}
	return nil
}

// tableNames returns "FAMILY NAME" of every table. It asks the kernel directly: most pods have none, and starting nft to
// learn that takes longer than all the rest.
func tableNames(ns netns.NsHandle) ([]string, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list nftables: %w", err)
	}
	families := map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
		nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev", nftables.TableFamilyBridge: "bridge",
	}
	var names []string
	for _, table := range tables {
		names = append(names, families[table.Family]+" "+table.Name)
	}
	return names, nil
}

// nft runs the nft command in a namespace with the given input.
func nft(ctx context.Context, ns netns.NsHandle, input string) error {
	_, err := nftOutput(ctx, ns, input)
	return err
}

func nftOutput(ctx context.Context, ns netns.NsHandle, input string) (string, error) {
	var stdout, stderr strings.Builder
	err := within(ns, func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
		cmd.WaitDelay = time.Second
		return cmd.Run()
	})
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("nft is not installed: install the package nftables: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
