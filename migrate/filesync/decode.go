package filesync

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
)

// decoder reads what an encoder wrote, and not a byte more. It bounds what it allocates, and checks sums but not paths.
type decoder struct {
	r       io.Reader
	sum     hash.Hash
	buf     []byte // of the frame
	rest    []byte // of buf, not yet read
	raw     []byte // of the record, to be summed
	rec     record
	data    []byte
	records uint64
}

func newDecoder(r io.Reader) *decoder { return &decoder{r: r, sum: sha256.New()} }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

func (d *decoder) start() (begin, error) {
	head := make([]byte, len(magic)+2)
	if err := d.readFull(head); err != nil {
		return begin{}, err
	}
	if !bytes.HasPrefix(head, []byte(magic)) {
		return begin{}, corrupt("it starts with %q, not with %q", head[:len(magic)], magic)
	}
	if v := binary.BigEndian.Uint16(head[len(magic):]); v != Version {
		return begin{}, fmt.Errorf("%w: it has version %d, this host takes version %d: run the same release on both hosts", ErrVersion, v, Version)
	}
	d.sum.Write(head)
	r, err := d.next()
	if err != nil {
		return begin{}, err
	}
	if r.op != opBegin {
		return begin{}, corrupt("operation %d comes first", r.op)
	}
	return r.begin, nil
}

// next returns the next record, which is good until the next call. After opEnd nothing is left to read.
func (d *decoder) next() (*record, error) {
	d.raw = d.raw[:0]
	b, err := d.byte()
	if err != nil {
		return nil, err
	}
	d.rec = record{op: op(b), segments: d.rec.segments[:0]}
	if err := d.fields(&d.rec); err != nil {
		return nil, err
	}
	d.sum.Write(d.raw)
	d.records++
	switch d.rec.op {
	case opData:
		err = d.block(&d.rec)
	case opEnd:
		err = d.end(&d.rec)
	}
	return &d.rec, err
}

func (d *decoder) fields(r *record) (err error) {
	switch r.op {
	case opBegin:
		return d.begin(&r.begin)
	case opData:
		return d.blockHead(r)
	case opHole:
		r.offset = d.int64(&err)
		r.size = d.int64(&err)
		return err
	case opEnd:
		r.trailer.records = d.uint64(&err)
		s := &r.trailer.stats
		for _, v := range []*int{&s.Entries, &s.Changed, &s.Removed, &s.Unsettled} {
			*v = int(d.int64(&err))
		}
		s.Bytes, s.BytesSaved = d.int64(&err), d.int64(&err)
		return err
	case opRemove, opRmdir, opStash, opPlace, opMkdir, opCreate, opSymlink, opNode, opLink, opFile, opMeta:
	default:
		return corrupt("unknown operation %d", r.op)
	}
	r.path = d.string(maxPath, &err)
	switch r.op {
	case opStash, opPlace:
		r.number = d.uint64(&err)
	case opSymlink:
		r.other = d.string(maxLink, &err)
	case opLink:
		r.other = d.string(maxPath, &err)
	case opNode:
		r.mode = d.uint32(&err)
		r.number = d.uint64(&err)
	case opFile:
		r.size = d.int64(&err)
	case opMeta:
		mark := len(d.raw)
		d.meta(&err)
		r.meta = d.raw[mark:]
	}
	return err
}

func (d *decoder) begin(b *begin) (err error) {
	if err := d.bytes(b.session[:]); err != nil {
		return err
	}
	b.pass = d.uint64(&err)
	b.flags = d.uint64(&err)
	return err
}

func (d *decoder) blockHead(r *record) (err error) {
	r.offset = d.int64(&err)
	n := d.uint64(&err)
	if err == nil && (n == 0 || n > maxSegments || r.offset%blockSize != 0) {
		return corrupt("a block at %d has %d segments", r.offset, n)
	}
	var end uint32
	for ; err == nil && n > 0; n-- {
		s := segment{d.uint32(&err), d.uint32(&err)}
		if err == nil && (s.offset < end || s.length == 0 || s.offset > blockSize || s.length > blockSize-s.offset) {
			return corrupt("a block at %d has a segment of %d bytes at %d", r.offset, s.length, s.offset)
		}
		end = s.offset + s.length
		r.segments = append(r.segments, s)
	}
	if err != nil {
		return err
	}
	return d.bytes(r.sum[:])
}

func (d *decoder) block(r *record) error {
	var n int
	for _, s := range r.segments {
		n += int(s.length)
	}
	if d.data == nil {
		d.data = make([]byte, blockSize)
	}
	r.data = d.data[:n]
	if err := d.read(r.data); err != nil {
		return err
	}
	if blockSum(r.segments, r.data) != r.sum {
		return corrupt("the block at %d does not match its sum", r.offset)
	}
	return nil
}

func (d *decoder) end(r *record) error {
	want := d.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := d.read(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return corrupt("it does not match the sum in its trailer")
	}
	if r.trailer.records != d.records-1 {
		return corrupt("%d records came of %d", d.records-1, r.trailer.records)
	}
	if len(d.rest) > 0 {
		return corrupt("it goes on after its trailer")
	}
	n, err := d.frame()
	if err == nil && n > 0 {
		return corrupt("it goes on after its trailer")
	}
	return err
}

// frame reads the length of the next frame.
func (d *decoder) frame() (int, error) {
	var head [4]byte
	if err := d.readFull(head[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return 0, corrupt("a frame of %d bytes", n)
	}
	return int(n), nil
}

func (d *decoder) read(p []byte) error {
	for len(p) > 0 {
		if len(d.rest) == 0 {
			n, err := d.frame()
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("%w: it ends within a record", ErrCut)
			}
			if cap(d.buf) < n {
				d.buf = make([]byte, n)
			}
			d.rest = d.buf[:n]
			if err := d.readFull(d.rest); err != nil {
				return err
			}
		}
		n := copy(p, d.rest)
		p, d.rest = p[n:], d.rest[n:]
	}
	return nil
}

func (d *decoder) readFull(p []byte) error {
	_, err := io.ReadFull(d.r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w after %d whole records", ErrCut, d.records)
	}
	if err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	return nil
}

// bytes reads p as part of the record.
func (d *decoder) bytes(p []byte) error {
	if err := d.read(p); err != nil {
		return err
	}
	d.raw = append(d.raw, p...)
	return nil
}

func (d *decoder) byte() (byte, error) {
	if len(d.rest) > 0 {
		b := d.rest[0]
		d.rest = d.rest[1:]
		d.raw = append(d.raw, b)
		return b, nil
	}
	var p [1]byte
	err := d.bytes(p[:])
	return p[0], err
}

// The readers of fields do nothing once err is set.

func (d *decoder) uint64(err *error) uint64 {
	var v uint64
	for shift := 0; *err == nil; shift += 7 {
		b, e := d.byte()
		if e != nil {
			*err = e
			return 0
		}
		if shift == 63 && b > 1 {
			*err = corrupt("a number is too large")
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	return 0
}

func (d *decoder) int64(err *error) int64 {
	v := d.uint64(err)
	if v > math.MaxInt64 {
		*err = corrupt("a number is too large")
		return 0
	}
	return int64(v)
}

func (d *decoder) uint32(err *error) uint32 {
	v := d.uint64(err)
	if v > math.MaxUint32 {
		*err = corrupt("a number is too large")
		return 0
	}
	return uint32(v)
}

func (d *decoder) string(limit int, err *error) string {
	n := d.uint64(err)
	if *err != nil {
		return ""
	}
	if n > uint64(limit) {
		*err = corrupt("a string of %d bytes, where %d are allowed", n, limit)
		return ""
	}
	b := make([]byte, n)
	*err = d.bytes(b)
	return string(b)
}

// meta reads the fields of encoded metadata, for their bounds only.
func (d *decoder) meta(err *error) {
	for range 3 {
		d.uint32(err)
	}
	d.uint64(err)
	if d.uint32(err) >= 1e9 {
		*err = corrupt("a second has more than 1e9 ns")
	}
	n := d.uint64(err)
	if *err == nil && n > maxXattrs {
		*err = corrupt("%d extended attributes", n)
	}
	for ; *err == nil && n > 0; n-- {
		d.string(maxXattrName, err)
		d.string(maxXattrValue, err)
	}
}
