// Package shop is a small service in three versions, to try upgrades with: a server of orders that keeps them in a file of its volume.
// Version 1 knows the cents of an order, version 2 an amount with a currency, and version 3 a note too, in calls as in the file. Each
// server is an image of its own with nothing in it but the program, which is also the record's transform.
package shop
