package filesync

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Version is that of the wire format. A target takes exactly this one.
const Version = 1

// A pass on the wire is the magic and the version, then frames: a 32-bit big-endian length and as many bytes, up to an empty
// frame. The frames joined are records: an operation byte and its fields, numbers as varints, strings with their length. The
// first is opBegin, the last opEnd; its sum covers all that goes before it but the bytes of blocks, which have their own.
const (
	magic     = "DRYFSYNC"
	maxFrame  = 256 << 10
	blockSize = 64 << 10

	maxSegments   = blockSize / 512
	maxXattrs     = 4096
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxLink       = 4096
)

var (
	// ErrCut is returned by Apply for a stream that ended before its trailer.
	ErrCut = errors.New("the stream was cut")
	// ErrCorrupt is returned by Apply for a stream that does not hold what its sums promise, or makes no sense.
	ErrCorrupt = errors.New("the stream is corrupt")
	// ErrUnsafe is returned by Apply for a stream that would touch something outside the target's root.
	ErrUnsafe = errors.New("the stream is unsafe")
	// ErrVersion is returned by Apply for a wire format that it does not know.
	ErrVersion = errors.New("unknown version of the stream")
	// ErrOrder is returned by Apply for a pass that does not follow the last one applied whole.
	ErrOrder = errors.New("the pass is out of order")
)

type op byte

const (
	opBegin   op = iota + 1
	opRemove     // path: a name of anything but a directory
	opRmdir      // path: an empty directory
	opStash      // path, number: put aside under that number
	opPlace      // path, number: bring back
	opMkdir      // path
	opCreate     // path: an empty regular file
	opSymlink    // path, other: its text
	opNode       // path, mode, number: the device
	opLink       // path, other: a name that exists
	opFile       // path, size: the regular file that opData and opHole are about, cut or grown to size
	opData       // offset, segments, sum, data
	opHole       // offset, size
	opMeta       // path, meta
	opEnd        // trailer
)

const (
	flagComplete = 1 << iota
	flagFinal
)

// segment is a run of data within a block; what lies between segments is a hole.
type segment struct{ offset, length uint32 }

type begin struct {
	session [16]byte
	pass    uint64
	flags   uint64
}

type trailer struct {
	records uint64
	stats   Stats
}

// record is any operation; which fields count is up to op.
type record struct {
	op          op
	begin       begin
	path, other string
	number      uint64
	mode        uint32
	size        int64
	offset      int64
	segments    []segment
	sum         [sha256.Size]byte
	data        []byte
	meta        []byte // encoded
	trailer     trailer
}

// append encodes all of r but the data and the trailer's sum.
func (r *record) append(b []byte) []byte {
	b = append(b, byte(r.op))
	switch r.op {
	case opBegin:
		b = append(b, r.begin.session[:]...)
		b = binary.AppendUvarint(b, r.begin.pass)
		return binary.AppendUvarint(b, r.begin.flags)
	case opData:
		b = binary.AppendUvarint(b, uint64(r.offset))
		b = appendSegments(b, r.segments)
		return append(b, r.sum[:]...)
	case opHole:
		b = binary.AppendUvarint(b, uint64(r.offset))
		return binary.AppendUvarint(b, uint64(r.size))
	case opEnd:
		s := r.trailer.stats
		b = binary.AppendUvarint(b, r.trailer.records)
		for _, v := range []int64{int64(s.Entries), int64(s.Changed), int64(s.Removed), int64(s.Unsettled), s.Bytes, s.BytesSaved} {
			b = binary.AppendUvarint(b, uint64(v))
		}
		return b
	}
	b = appendString(b, r.path)
	switch r.op {
	case opStash, opPlace:
		b = binary.AppendUvarint(b, r.number)
	case opSymlink, opLink:
		b = appendString(b, r.other)
	case opNode:
		b = binary.AppendUvarint(b, uint64(r.mode))
		b = binary.AppendUvarint(b, r.number)
	case opFile:
		b = binary.AppendUvarint(b, uint64(r.size))
	case opMeta:
		b = append(b, r.meta...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSegments(b []byte, segments []segment) []byte {
	b = binary.AppendUvarint(b, uint64(len(segments)))
	for _, s := range segments {
		b = binary.AppendUvarint(b, uint64(s.offset))
		b = binary.AppendUvarint(b, uint64(s.length))
	}
	return b
}

// blockSum is the name of a block's content: where its data lies, and the data.
func blockSum(segments []segment, data []byte) (sum [sha256.Size]byte) {
	var head [2 * binary.MaxVarintLen32 * 4]byte
	h := sha256.New()
	h.Write(appendSegments(head[:0], segments))
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

// encoder writes records in frames.
type encoder struct {
	w       io.Writer
	sum     hash.Hash
	frame   []byte // starts with room for its length
	scratch []byte
	records uint64
}

func newEncoder(w io.Writer) *encoder {
	e := &encoder{w: w, sum: sha256.New(), frame: make([]byte, 4, maxFrame+4)}
	return e
}

// start writes what precedes the frames.
func (e *encoder) start(b begin) error {
	head := binary.BigEndian.AppendUint16([]byte(magic), Version)
	e.sum.Write(head)
	if _, err := e.w.Write(head); err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	return e.emit(&record{op: opBegin, begin: b})
}

func (e *encoder) emit(r *record) error {
	e.scratch = r.append(e.scratch[:0])
	e.sum.Write(e.scratch)
	e.records++
	if err := e.write(e.scratch); err != nil {
		return err
	}
	return e.write(r.data)
}

func (e *encoder) write(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), cap(e.frame)-len(e.frame))
		e.frame = append(e.frame, p[:n]...)
		p = p[n:]
		if len(e.frame) == cap(e.frame) {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *encoder) flush() error {
	binary.BigEndian.PutUint32(e.frame, uint32(len(e.frame)-4))
	_, err := e.w.Write(e.frame)
	e.frame = e.frame[:4]
	if err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	return nil
}

// end writes the trailer and the empty frame.
func (e *encoder) end(stats Stats) error {
	if err := e.emit(&record{op: opEnd, trailer: trailer{e.records, stats}}); err != nil {
		return err
	}
	if err := e.write(e.sum.Sum(nil)); err != nil {
		return err
	}
	if len(e.frame)+4 <= cap(e.frame) && len(e.frame) > 4 { // both in one write
		binary.BigEndian.PutUint32(e.frame, uint32(len(e.frame)-4))
		e.frame = append(e.frame, 0, 0, 0, 0)
		if _, err := e.w.Write(e.frame); err != nil {
			return fmt.Errorf("write the stream: %w", err)
		}
		return nil
	}
	if len(e.frame) > 4 {
		if err := e.flush(); err != nil {
			return err
		}
	}
	return e.flush()
}
