package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/clictx"
	"drydock/internal/pki"
)

func newUserCommand(a *app) *cobra.Command {
	return newGroup("user", "Who may ask the controllers for what", newUserAdd(a), newUserList(a), newUserRemove(a))
}

func newUserAdd(a *app) *cobra.Command {
	var role, file, server string
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Make credentials for somebody, as a file of contexts",
		Long: `Make credentials for somebody, as a file of contexts: what they need, and all they need.

A viewer looks, an operator acts on pods, hosts and images, an admin adds and removes users, hosts and controllers. The key is
made here and goes nowhere but into the file, which only you can read: hand it over safely.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := pki.ParseRole(role); err != nil {
				return misuse(cmd, "user add needs --role %s", strings.Join(pki.Roles(), ", "))
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if server == "" && strings.HasPrefix(a.target.Server, "https://") {
				server = a.target.Server
			}
			if !strings.HasPrefix(server, "https://") {
				return misuse(cmd, "user add needs --for-server https://HOST:PORT, where the user reaches the controllers")
			}
			if file == "" {
				file = args[0] + ".yaml"
			}
			return a.addUser(cmd, c, args[0], role, server, file)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator or admin")
	cmd.Flags().StringVar(&file, "file", "", "file to write; NAME.yaml if not given")
	cmd.Flags().StringVar(&server, "for-server", "", "controllers' addresses in the file: https://HOST:PORT, several with commas; ours if not given")
	a.complete(cmd, "role", fixed(pki.Roles()...))
	return cmd
}

func (a *app) addUser(cmd *cobra.Command, c *client, name, role, server, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return misuse(cmd, "%s is there already: name another file with --file", path)
	}
	request, key, err := pki.NewRequest(pki.Identity{Kind: pki.User, Name: name})
	if err != nil {
		return err
	}
	res, err := ask(cmd.Context(), c, c.CreateUser, &v1.CreateUserRequest{Name: name, Role: role, CertificateRequest: request})
	if err != nil {
		return err
	}
	file := &clictx.File{CurrentContext: name, Contexts: []clictx.Context{{
		Name: name, Server: server, CAData: string(res.Ca), CertData: string(res.Certificate), KeyData: string(key),
	}}}
	if err := clictx.Save(path, file); err != nil {
		return &failure{status: statusFailed, message: fmt.Sprintf("user %s was added, but %v", name, err),
			remedies: []string{fmt.Sprintf("remove the user with `drydock user rm %s`, and add it again with another --file", name)}}
	}
	result := map[string]any{"user": message{res.User}, "file": path}
	return a.print(result, func(t *table) {
		t.line("user %s has the role %s until %s", name, role, moment(res.User.Expires))
		t.line("%s holds the credentials: %s=%s drydock status", path, clictx.EnvFile, path)
	})
}

func newUserList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List those who were added",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListUsers, &v1.ListUsersRequest{})
			if err != nil {
				return err
			}
			return a.print(messages(res.Users), func(t *table) {
				t.row("USER", "ROLE", "AGE", "UNTIL")
				for _, u := range res.Users {
					t.row(u.Name, u.Role, a.age(u.Created), moment(u.Expires))
				}
			})
		},
	}
}

func newUserRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Take somebody's rights away, at once",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := ask(cmd.Context(), c, c.RemoveUser, &v1.RemoveUserRequest{Name: args[0]}); err != nil {
				return err
			}
			return a.done("user", args[0], "removed")
		},
	}
}
