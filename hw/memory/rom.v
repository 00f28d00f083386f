// A read-only memory whose words come from a file of hexadecimal numbers, one a line.
module NOMUL_ROM #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDRESS = 1,
    parameter FILE = ""
) (
    input clk,
    input en,
    input [ADDRESS-1:0] address,
    output reg [WIDTH-1:0] data
);
  (* ram_style = "block" *) reg [WIDTH-1:0] words[0:DEPTH-1];
  initial $readmemh(FILE, words);
  always @(posedge clk) if (en) data <= words[address];
endmodule
