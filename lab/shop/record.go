package shop

// Record is the service's upgrade record: v2 knows currencies, and there is a way back to v1; v3 knows notes, which the shim keeps
// for servers of v2, and deletes orders. Over gRPC notes are read, and not written.
const Record = `service: shop
client:
  header: X-Shop-Version
  default: v1
versions: [v1, v2, v3]
descriptors: {v1: shop-v1.binpb, v2: shop-v2.binpb, v3: shop-v3.binpb}
pairs:
  - between: [v1, v2]
    up:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          request:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
        - name: put an order
          match: {path: /shop.Orders/Put}
          request:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
        - name: get an order
          match: {path: /shop.Orders/Get}
          reply:
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
    down:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          when: body.currency == "EUR"
          request:
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
        - name: put an order
          match: {path: /shop.Orders/Put}
          request:
            - map: {field: currency, values: {EUR: EUR}}
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
        - name: get an order
          match: {path: /shop.Orders/Get}
          reply:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
    transform: {command: [/shop, transform, up], back: [/shop, transform, back], timeout: 1m}
    schedule: {kind: rolling, at-once: 1}
    disallowed: none
    examples:
      - name: an order is written
        old: {request: {method: PUT, path: /orders/7, body: {cents: 5}}, reply: {status: 204}}
        new: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR}}, reply: {status: 204}}
      - name: an order is read
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {cents: 5}}}
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
      - name: an order is put
        old: {request: {method: POST, path: /shop.Orders/Put, body: {id: '7', cents: '5'}}, reply: {status: 200, body: {}}}
        new: {request: {method: POST, path: /shop.Orders/Put, body: {id: '7', amount: '5', currency: EUR}}, reply: {status: 200, body: {}}}
      - name: an order is got
        old: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', cents: '5'}}}
        new: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', amount: '5', currency: EUR}}}
  - between: [v2, v3]
    up:
      otherwise: pass
      rules:
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - drop: {field: note}
        - name: get an order
          match: {path: /shop.Orders/Get}
          reply:
            - drop: {field: note}
    down:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          request:
            - keep: {field: note, by: 'path:id'}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - keep: {field: note, by: 'path:id'}
        - name: put an order without a note
          match: {path: /shop.Orders/Put}
          request:
            - map: {field: note, values: {'': ''}}
            - drop: {field: note}
        - name: get an order
          match: {path: /shop.Orders/Get}
          reply:
            - keep: {field: note, by: id}
    transform: {command: [/shop, transform, notes], timeout: 1m}
    schedule: {kind: rolling, at-once: 1}
    disallowed:
      - version: v3
        match: {method: [DELETE], path: '/orders/{id}'}
        reason: v2 keeps every order
    examples:
      - name: an order is written
        direction: down
        lossy: the shim keeps the note
        new: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR, note: gift}}, reply: {status: 204}}
        old: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR}}, reply: {status: 204}}
      - name: an order is read
        direction: down
        kept: {note: {'7': gift}}
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR, note: gift}}}
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
      - name: an order with a note is read by one who knows none
        direction: up
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR, note: gift}}}
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
      - name: an order is put
        direction: down
        new: {request: {method: POST, path: /shop.Orders/Put, body: {id: '7', amount: '5', currency: EUR}}, reply: {status: 200, body: {}}}
        old: {request: {method: POST, path: /shop.Orders/Put, body: {id: '7', amount: '5', currency: EUR}}, reply: {status: 200, body: {}}}
      - name: an order is got
        direction: down
        kept: {note: {'7': gift}}
        new: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', amount: '5', currency: EUR, note: gift}}}
        old: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', amount: '5', currency: EUR}}}
      - name: an order with a note is got by one who knows none
        direction: up
        new: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', amount: '5', currency: EUR, note: gift}}}
        old: {request: {method: POST, path: /shop.Orders/Get, body: {id: '7'}}, reply: {status: 200, body: {id: '7', amount: '5', currency: EUR}}}
      - name: v2 deletes nothing
        new: {request: {method: DELETE, path: /orders/7}}
        refused: disallowed
`

// Gateway, behind Record, leads calls for one order to one pod.
const Gateway = `route:
  - {match: {path: '/orders/{id}'}, by: 'path:id'}
  - {match: {path: '/shop.Orders/{method}'}, by: 'header:X-Order'}
gateway: {pod: shop-front, image: 'shop:v1', command: [/shop, idle], ports: [8080], health: /healthz}
`
